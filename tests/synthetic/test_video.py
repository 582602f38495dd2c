from __future__ import annotations

import av
import numpy as np
import pytest

from da3stream.synthetic.textures import plaster
from da3stream.synthetic.video import encode_video


@pytest.fixture
def frames():
    wide = plaster((160, 64), ((90, 60, 40), (230, 200, 160)), np.random.default_rng(0))
    return [wide[:, i * 4 : i * 4 + 96] for i in range(14)]


def test_decodes_to_the_frames_and_times_that_went_in(tmp_path, frames):
    path = tmp_path / "clip.mp4"
    encode_video(path, frames, fps=10)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        decoded = [
            (float(f.pts * f.time_base), f.to_ndarray(format="rgb24")) for f in container.decode(stream)
        ]
    assert [time for time, _ in decoded] == pytest.approx([i / 10 for i in range(len(frames))], abs=1e-12)
    for (_, image), frame in zip(decoded, frames, strict=True):
        assert np.abs(image.astype(int) - frame).mean() < 4


def test_equal_frames_give_equal_files(tmp_path, frames):
    paths = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for path in paths:
        encode_video(path, frames, fps=10)
    assert paths[0].read_bytes() == paths[1].read_bytes()
