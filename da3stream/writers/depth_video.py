"""depth_vis/ of a run: every frame beside its depth, as pictures and as one video."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from da3stream.errors import MissingDependencyError, StoreError
from da3stream.scene import FrameBlock
from da3stream.writers.base import Writer, WriterContext
from da3stream.writers.depth_vis import RANGE_PERCENTILES, turbo
from da3stream.writers.kept_depth import depth_at_image_size
from da3stream.writers.pending import PendingOutputs

FRAMES_PER_SECOND = 10
"""Where the times of frames are made up."""
LONGEST_S = 1.0
"""A frame is shown for so long at most: photographs may be hours apart."""
_TICKS_PER_SECOND = 1000
_CODES = 1 << 16
_STEPS_PER_OCTAVE = 512
_MIDDLE = 1 << 15
_FASTEST = 1


class DepthVisWriter(Writer):
    """depth_vis/000042.png for frame index 42, and depth_vis/depth_vis.mp4 (H.264).

    The video is as fast as the capture was: every frame has its own time, but that a gap is shown for a
    second at most. Where times are made up, it has ten frames a second.

    The image is left, its depth in the colours of Turbo right: near is red, far is blue, unknown is black.
    One scale for the whole run, so that a colour means the same depth everywhere: colours are spread over
    inverse depth between its percentiles 2 and 98. Since these are known in the end only, the frames wait in
    a scratch folder, losslessly compressed.
    """

    has_full_depth = True

    def __init__(self, context: WriterContext) -> None:
        super().__init__(context)
        self._indices: list[int] = []
        self._times_s: list[float] = []
        self._counts = np.zeros(_CODES, dtype=np.int64)
        self._pending = PendingOutputs(context.outputs)
        self._scratch = PendingOutputs(context.outputs)
        self._folder = self._pending.folder("depth_vis")
        try:
            self._waiting = self._scratch.folder("depth_vis/scratch")
        except BaseException:
            self._pending.abort()
            raise

    def add(self, block: FrameBlock) -> None:
        for row, index in enumerate(block.index.tolist()):
            codes = _nearness_codes(depth_at_image_size(block, row).depth)
            self._counts += np.bincount(codes.ravel(), minlength=_CODES)
            _write_png(self._waiting / f"{index}_image.png", block.images[row])
            _write_png(self._waiting / f"{index}_depth.png", codes)
            self._indices.append(index)
            self._times_s.append(float(block.timestamp_s[row]))

    def finish(self) -> None:
        if self._indices:
            import av

            try:
                self._write_video()
            except (av.FFmpegError, OSError) as error:  # PyAV passes an error of the stream on as either
                raise StoreError(
                    "depth_vis/ could not be written",
                    got=str(error.__cause__ or error),
                    hint="Is the disk full? What is stored until here is kept; go on with --resume.",
                ) from error
        self._scratch.abort()
        self._pending.commit()

    def abort(self) -> None:
        self._scratch.abort()
        self._pending.abort()

    def _write_video(self) -> None:
        with (self._folder / "depth_vis.mp4").open("xb") as stream, _Video(stream) as video:
            for index, tick, picture in zip(self._indices, self._ticks(), self._pictures(), strict=True):
                _write_png(self._folder / f"{index:06d}.png", picture)
                video.append(picture, tick)

    def _ticks(self) -> list[int]:
        """When each frame is shown, in milliseconds."""
        if self.context.timestamps_are_synthetic:
            return [number * _TICKS_PER_SECOND // FRAMES_PER_SECOND for number in range(len(self._times_s))]
        gaps_s = np.clip(np.diff(self._times_s), 1 / _TICKS_PER_SECOND, LONGEST_S)
        ticks: list[int] = np.rint(np.cumsum([0.0, *gaps_s]) * _TICKS_PER_SECOND).astype(int).tolist()
        return ticks

    def _pictures(self) -> Iterator[NDArray[np.uint8]]:
        """(H, 2 W, 3) RGB of every frame; what it waited in is removed."""
        colours = _colours_of_codes(self._counts)
        for index in self._indices:
            image, codes = (self._waiting / f"{index}_{kind}.png" for kind in ("image", "depth"))
            yield np.concatenate([_read_png(image), colours[_read_png(codes)]], axis=1)
            image.unlink()
            codes.unlink()


def _nearness_codes(depth: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Inverse depth on a scale of 512 steps an octave (0.14 %), from 2 ** -64 to 2 ** 64; 0 = unknown."""
    known = depth > 0
    octaves = -np.log2(np.where(known, depth, np.float32(1)).astype(np.float64))
    codes = np.clip(np.rint(octaves * _STEPS_PER_OCTAVE) + _MIDDLE, 1, _CODES - 1)
    return np.where(known, codes, 0).astype(np.uint16)


def _colours_of_codes(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """(65536, 3) RGB of all codes, for a run in which they occur so often."""
    nearness = 2.0 ** ((np.arange(_CODES) - _MIDDLE) / _STEPS_PER_OCTAVE)
    known = np.cumsum(np.where(np.arange(_CODES) > 0, counts, 0))
    low, high = (nearness[np.searchsorted(known, share / 100 * known[-1])] for share in RANGE_PERCENTILES)
    colours = turbo(nearness, low, high)
    colours[0] = 0
    return colours


class _Video:
    """An H.264 video in an MP4 file. Of one encoder, the same pictures give the same bytes."""

    def __init__(self, stream: BinaryIO) -> None:
        import av

        self._container = av.open(stream, "w", format="mp4", options={"fflags": "+bitexact"})
        self._encoder: Any = None

    def __enter__(self) -> _Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._encoder is not None:
            self._container.mux(self._encoder.encode(None))
        self._container.close()

    def append(self, picture: NDArray[np.uint8], tick: int) -> None:
        """Add an RGB picture that is shown from this millisecond on.

        Odd sizes lose their last row or column, since the format knows even ones.
        """
        import av
        import cv2

        height, width = (side // 2 * 2 for side in picture.shape[:2])
        if self._encoder is None:
            self._encoder = self._new_encoder(width, height)
        planes = cv2.cvtColor(np.ascontiguousarray(picture[:height, :width]), cv2.COLOR_RGB2YUV_I420)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = tick, Fraction(1, _TICKS_PER_SECOND)
        self._container.mux(self._encoder.encode(frame))

    def _new_encoder(self, width: int, height: int) -> Any:
        if "libx264" not in _encoders():
            raise MissingDependencyError(
                "this build of PyAV has no H.264 encoder (libx264)",
                hint="Take PyAV's own wheel: pip install --force-reinstall --only-binary av av",
            )
        encoder = self._container.add_stream("libx264", rate=FRAMES_PER_SECOND)
        encoder.codec_context.time_base = Fraction(1, _TICKS_PER_SECOND)
        encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
        # The number of threads is part of what decides the bytes. With its macroblock tree, x264 gives other
        # bytes in 1 to 17 of a hundred tries (PyAV 18.1); without it, 2,200 of 2,200 were the same.
        encoder.options = {"crf": "18", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
        return encoder


def _encoders() -> set[str]:
    import av

    return set(av.codecs_available)


def _write_png(path: Path, pixels: NDArray[Any]) -> None:
    """Write (H, W) uint16 or (H, W, 3) RGB uint8."""
    import cv2

    flipped = np.ascontiguousarray(pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    _, png = cv2.imencode(".png", flipped, [cv2.IMWRITE_PNG_COMPRESSION, _FASTEST])
    path.write_bytes(png.tobytes())


def _read_png(path: Path) -> NDArray[Any]:
    import cv2

    content = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    pixels = np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED))
    return pixels[..., ::-1] if pixels.ndim == 3 else pixels
