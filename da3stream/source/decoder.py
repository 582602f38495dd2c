"""The decoder process: `python -m da3stream.source.decoder MODE PATH`.

It reads one request record from its standard input, writes records to its standard output and ends. When its
standard input closes, the process that asked is gone, and it ends at once. It owns nothing that must be
cleaned up, so it may be killed at any time. A live input arrives in the request, since its address may hold
a password, which an argument would show to everybody; PATH is then what messages call it.

Decoding, conversion and writing overlap: one thread decodes and selects, a few convert, the main thread
writes in order. All of them let go of Python's lock while they work.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO

from da3stream.errors import InputError, NoFramesError
from da3stream.source.live_address import PIPE_EXAMPLE, STANDARD_INPUT_NAME, LiveAddress, Patience
from da3stream.source.ordered_conversion import Message, OrderedConversion
from da3stream.source.records import Kind, Record, read_record, write_record
from da3stream.source.selection import SelectionRule, select
from da3stream.source.video_decoding import DecodedFrame, VideoDecoder

if TYPE_CHECKING:
    from da3stream.source.frame_scaling import FrameScaler
    from da3stream.source.motion import MotionFilter
    from da3stream.source.undistortion import Undistorter


def main() -> None:
    """Serve the one request."""
    output = _claim_standard_output()
    request = read_record(sys.stdin.buffer)
    if request is None:
        return
    stop = threading.Event()
    threading.Thread(target=_obey_standard_input, args=[stop], daemon=True).start()
    mode, path = sys.argv[1:]
    try:
        if mode == "capture":
            _capture(request, output, stop)
        else:
            _MODES[mode](_opened(path, request), request, output)
    except InputError as error:
        write_record(output, Kind.ERROR, _error_fields(error))


def _opened(path: str, request: Record) -> VideoDecoder:
    """The decoder of a file, or of what the request names."""
    if "address" not in request.fields:
        return VideoDecoder(path)
    from da3stream.source.live_capture import open_pipe, open_stream

    address = LiveAddress(**request.fields["address"])
    is_pipe = address.url.startswith("pipe:")
    opened = open_pipe(address) if is_pipe else open_stream(address, Patience())
    return VideoDecoder(path, container=opened)


def _describe(decoder: VideoDecoder, request: Record, output: BinaryIO) -> None:
    """Send what the container and the first frame say."""
    for decoded in decoder:
        write_record(output, Kind.DESCRIPTION, _description_fields(decoder, decoded.frame))
        return
    raise _no_frames(decoder)


def _send_frames(decoder: VideoDecoder, request: Record, output: BinaryIO) -> None:
    """Send the selected frames at processing size."""
    rule = SelectionRule(**request.fields["rule"])
    motion = None if rule.motion is None else _motion_filter(rule.motion)

    def convert(decoded: DecodedFrame) -> Message:
        return _frame_message(decoded, decoder, request.fields)

    selected = select(decoder, rule, elapsed_s=lambda decoded: decoded.elapsed_s, motion=motion)
    if not _send_all(OrderedConversion(selected, convert), output):
        raise _no_frames(decoder)
    write_record(output, Kind.END, {**_end_fields(decoder), "motion": _motion_counts(motion)})


def _motion_filter(threshold: float) -> MotionFilter[DecodedFrame]:
    from da3stream.source.motion import MotionFilter

    return MotionFilter(threshold, lambda decoded: _scaler().grey(decoded.frame))


def _motion_counts(motion: MotionFilter[DecodedFrame] | None) -> dict[str, int] | None:
    return None if motion is None else {"kept": motion.kept, "offered": motion.offered}


def _frame_message(decoded: DecodedFrame, decoder: VideoDecoder, request: dict[str, Any]) -> Message:
    image = _scaler().processed_rgb(
        decoded.frame, decoder.orientation, request["resolution"], _undistorter(request)
    )
    fields = {
        "source_index": decoded.source_index,
        "timestamp_s": decoded.timestamp_s,
        "shape": image.shape,
        "original_size": decoder.orientation.upright_size(decoded.frame.width, decoded.frame.height),
    }
    return Message(kind=Kind.FRAME, fields=fields, payload=image.data.cast("B"))


def _capture(request: Record, output: BinaryIO, stop: threading.Event) -> None:
    """Send the selected frames of a live stream, at its pace: what the reader does not take is thinned."""
    from da3stream.source.live_capture import BufferedCapture, LiveCapture

    fields = request.fields
    rule = SelectionRule(**fields["rule"])
    motion = None if rule.motion is None else _motion_filter(rule.motion)
    capture = LiveCapture(LiveAddress(**fields["address"]), rule, Patience(**fields["patience"]))
    messages = BufferedCapture(
        capture, motion, stop, lambda decoded, decoder: _frame_message(decoded, decoder, fields)
    )
    sent = 0
    for message in messages:
        counted = {**message.fields, "counts": messages.counts()}
        write_record(output, message.kind, counted, message.payload)
        sent += 1
    if not sent:
        raise NoFramesError(
            f"the capture of {capture.address.shown} ended before a frame was taken",
            hint="Check --start and --end: they count seconds from the first frame.",
        )
    end = {
        **_end_fields(capture.decoder),
        "counts": messages.counts(),
        "motion": _motion_counts(motion),
    }
    write_record(output, Kind.END, {**end, "duration_s": None} if capture.is_live else end)


def _send_originals(decoder: VideoDecoder, request: Record, output: BinaryIO) -> None:
    """Send the frames with the requested numbers as JPEG files."""
    numbers = set(memoryview(request.payload).cast("q").tolist())

    def convert(decoded: DecodedFrame) -> Message:
        fields = {"source_index": decoded.source_index}
        jpeg = _scaler().encoded_jpeg(decoded.frame, decoder.orientation, _undistorter(request.fields))
        return Message(kind=Kind.IMAGE, fields=fields, payload=jpeg)

    _send_all(OrderedConversion(_numbered(decoder, numbers), convert), output)
    write_record(output, Kind.END, _end_fields(decoder))


@cache
def _scaler() -> FrameScaler:
    """Made for the first frame: OpenCV and numpy are imported while the decoder is at work already."""
    from da3stream.source.frame_scaling import FrameScaler

    return FrameScaler()


def _undistorter(request: dict[str, Any]) -> Undistorter | None:
    """What undistorts the frames, if the request asks for that. Imported late, as the scaler is."""
    if "lens" not in request:
        return None
    from da3stream.source.undistortion import undistorter_of

    return undistorter_of(request)


_MODES: dict[str, Callable[[VideoDecoder, Record, BinaryIO], None]] = {
    "describe": _describe,
    "frames": _send_frames,
    "originals": _send_originals,
}


def _numbered(decoder: VideoDecoder, numbers: set[int]) -> Iterator[DecodedFrame]:
    last = max(numbers)
    for decoded in decoder:
        if decoded.source_index in numbers:
            yield decoded
        if decoded.source_index >= last:
            return


def _send_all(messages: OrderedConversion, output: BinaryIO) -> int:
    """Write all messages and return their number."""
    sent = 0
    for message in messages:
        write_record(output, message.kind, message.fields, message.payload)
        sent += 1
    return sent


def _no_frames(decoder: VideoDecoder) -> NoFramesError:
    losses = decoder.losses
    if decoder.decoded_frames == losses.damaged_frames:
        return NoFramesError(
            f"no frame of {decoder.path} could be decoded",
            got=f"{losses.broken_packets} broken packets, {losses.damaged_frames} damaged frames",
            hint=f"An mp4 whose index is at its end cannot be piped. For example: {PIPE_EXAMPLE}"
            if decoder.path == STANDARD_INPUT_NAME
            else None,
        )
    return NoFramesError(
        f"the selection leaves no frame of {decoder.path}",
        got=f"a video of {decoder.end_s:.2f} s" if decoder.is_complete else "no frame between start and end",
        hint="Check --start and --end: they count seconds from the first frame.",
    )


def _description_fields(decoder: VideoDecoder, frame: Any) -> dict[str, Any]:
    stream = decoder.stream
    width, height = decoder.orientation.upright_size(frame.width, frame.height)
    aspect = stream.sample_aspect_ratio
    return {
        "container": decoder.container_name,
        "codec": stream.codec_context.name,
        "width": width,
        "height": height,
        "rotation_deg": decoder.orientation.clockwise_deg,
        "duration_s": decoder.duration_s,
        "frames": stream.frames or None,
        "average_fps": float(stream.average_rate) if stream.average_rate else None,
        "base_fps": float(stream.base_rate) if stream.base_rate else None,
        "has_times": frame.pts is not None,
        "pixel_aspect_ratio": float(aspect) if aspect else 1.0,
    }


def _end_fields(decoder: VideoDecoder) -> dict[str, Any]:
    aspect = decoder.stream.sample_aspect_ratio
    return {
        **asdict(decoder.losses),
        "decoded_frames": decoder.decoded_frames,
        "end_s": decoder.end_s,
        "is_complete": decoder.is_complete,
        "duration_s": decoder.duration_s,
        "interval_s": float(1 / decoder.rate),
        "is_turned_oddly": decoder.is_turned_oddly,
        "is_interlaced": decoder.is_interlaced,
        "pixel_aspect_ratio": float(aspect) if aspect else 1.0,
    }


def _error_fields(error: InputError) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "what": error.what,
        "got": None if error.got is None else str(error.got),
        "expected": None if error.expected is None else str(error.expected),
        "hint": error.hint,
    }


def _claim_standard_output() -> BinaryIO:
    """The pipe to the reader. Whatever a library prints from now on goes to standard error instead."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return output


def _obey_standard_input(stop: threading.Event) -> None:
    """Set the event when asked to stop; end with the process that asks."""
    while read_record(sys.stdin.buffer) is not None:
        stop.set()
    os._exit(0)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # the reader is gone, or wants no more
        pass
    except BaseException:
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # past the threads that may still decode ahead, and past the teardown of native libraries
