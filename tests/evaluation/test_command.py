from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from da3stream.cli.eval import command
from da3stream.errors import FormatError
from da3stream.geometry.rigid3 import quaternion_wxyz


def write_tum(path, poses):
    table = np.column_stack(
        [
            poses.timestamp_s,
            poses.positions,
            quaternion_wxyz(poses.world_from_cam[:, :3, :3])[:, [1, 2, 3, 0]],
        ]
    )
    np.savetxt(path, table, fmt="%.12f")
    return str(path)


@pytest.fixture
def files(tmp_path, truth, estimate):
    return [write_tum(tmp_path / "estimate.txt", estimate), "--gt", write_tum(tmp_path / "truth.txt", truth)]


def run(*arguments):
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_prints_a_table(files):
    result = run(*files)
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].split() == ["associated", "frames", "120", "of", "120,", "by", "timestamps"]
    assert any(line.startswith("ATE (sim3)") and "RMSE" in line for line in lines)
    assert lines[-1].split()[0] == "scale"


def test_pairs_by_position_say_what_that_means(files, tmp_path, truth):
    np.savetxt(tmp_path / "kitti.txt", truth.world_from_cam[:, :3].reshape(-1, 12))
    result = run(files[0], "--gt", str(tmp_path / "kitti.txt"))
    assert "120 of 120, by position: row i of the truth is frame i of the source" in result.output


def test_prints_json_and_draws(files, tmp_path):
    result = run(
        *files, "--json", "--alignment", "se3", "--rpe-delta", "4", "--plot", str(tmp_path / "p.png")
    )
    content = json.loads(result.output)
    assert content["alignment"] == "se3"
    assert content["rpe_delta_frames"] == 4
    assert content["scale"] == 1
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_known_errors_are_left_to_the_group(files, tmp_path):
    (tmp_path / "bad.txt").write_text("1 2 3\n")
    with pytest.raises(FormatError):
        run(files[0], "--gt", str(tmp_path / "bad.txt"))


def test_the_truth_is_required(files):
    assert run(files[0]).exit_code == 2
