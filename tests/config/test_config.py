"""Presets, files and overrides; and every way in which they can be wrong."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from da3stream.config import (
    CameraConfig,
    ChunkingConfig,
    Config,
    EstimationConfig,
    KnownConfig,
    LoopConfig,
    MeansConfig,
    OutputConfig,
    SourceConfig,
    load_config,
    preset_names,
)
from da3stream.errors import ConfigError, Da3StreamError

PRESETS = Path(__file__).resolve().parents[2] / "configs"
SECTIONS = (
    MeansConfig,
    SourceConfig,
    ChunkingConfig,
    EstimationConfig,
    KnownConfig,
    LoopConfig,
    OutputConfig,
)


@pytest.fixture
def write(tmp_path: Path) -> Any:
    """Writes a configuration file and returns its path."""

    def write_file(text: str) -> Path:
        path = tmp_path / "options.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


# Presets --------------------------------------------------------------------------------------------------


def test_every_file_in_configs_is_a_preset() -> None:
    assert set(preset_names()) == {path.stem for path in PRESETS.iterdir()}
    assert "default" in preset_names()


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_means_what_its_file_says(name: str) -> None:
    written = yaml.safe_load((PRESETS / f"{name}.yaml").read_text(encoding="utf-8"))
    config, defaults = load_config(name), load_config()
    for option in Config.model_fields:
        expected = written.get(option, getattr(defaults, option))
        assert getattr(config, option) == expected, option


def test_the_default_preset_is_the_default() -> None:
    """`overlap: 30` spells out what the default computes."""
    default, nothing = load_config("default"), load_config()
    assert default.overlap == nothing.overlap_of(60)
    assert default.model_copy(update={"overlap": None}) == nothing


@pytest.mark.parametrize("name", sorted(set(preset_names()) - {"default"}))
def test_every_other_preset_differs(name: str) -> None:
    assert load_config(name) != load_config("default")


def test_every_preset_explains_itself() -> None:
    for path in PRESETS.iterdir():
        assert path.read_text(encoding="utf-8").startswith("# ")


# Names ----------------------------------------------------------------------------------------------------


def test_option_names_are_unique_over_the_sections_and_flat() -> None:
    counts = Counter(name for section in SECTIONS for name in section.model_fields)
    camera = set(CameraConfig.model_fields)  # sources undistort by it, estimators keep it
    assert {name for name, count in counts.items() if count > 1} == camera
    assert set(counts) == set(Config.model_fields)
    for value in load_config().model_dump().values():
        assert not isinstance(value, dict)


def test_every_option_has_a_description() -> None:
    for name, field in Config.model_fields.items():
        assert field.description, name
        assert field.description.endswith("."), name


def test_a_configuration_survives_json() -> None:
    """The manifest of a run holds it so."""
    config = load_config("driving", {"intrinsics": "500,501,320,240", "voxel_size": 0.1})
    assert load_config(None, config.model_dump(mode="json")) == config


# Files and overrides --------------------------------------------------------------------------------------


def test_overrides_beat_the_file_and_the_file_beats_the_default(write: Any) -> None:
    path = write("chunk_size: 40\nfps: 5\n")
    config = load_config(path, {"fps": 2})
    assert (config.chunk_size, config.fps, config.resolution) == (40, 2.0, 504)
    assert load_config(str(path)).fps == 5.0


def test_an_override_can_take_an_option_of_a_preset_back() -> None:
    assert load_config("indoor").fps == 5.0
    assert load_config("indoor", {"fps": None}).fps is None


def test_overrides_are_not_written_to() -> None:
    overrides = {"chunk_size": 20}
    load_config("cpu", overrides)
    assert overrides == {"chunk_size": 20}


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_an_empty_file_means_the_defaults(write: Any, text: str) -> None:
    assert load_config(write(text)) == load_config()


@pytest.mark.parametrize(
    ("text", "value"), [("1e-3", 0.001), ("1.0e-3", 0.001), ("5E-1", 0.5), ("2", 2.0), ("'0.25'", 0.25)]
)
def test_floats_are_numbers_however_they_are_spelt(write: Any, text: str, value: float) -> None:
    """YAML 1.1 reads 1e-3 as a string."""
    assert load_config(write(f"voxel_size: {text}")).voxel_size == value


@pytest.mark.parametrize(("value", "expected"), [("auto", "auto"), ("0.2", 0.2), (1, 1.0), (None, None)])
def test_voxels_have_a_side_or_choose_it(value: object, expected: object) -> None:
    assert load_config(None, {"voxel_size": value}).voxel_size == expected


@pytest.mark.parametrize("text", ["export: [poses, tum]", "export: poses,tum", "export: ' poses , tum '"])
def test_lists_may_be_spelt_as_on_the_command_line(write: Any, text: str) -> None:
    assert load_config(write(text)).export == ("poses", "tum")


def test_intrinsics_are_four_numbers() -> None:
    assert load_config(None, {"intrinsics": "500,501.5,320,240"}).intrinsics == (500.0, 501.5, 320.0, 240.0)
    assert load_config(None, {"intrinsics": [1, 2, 3, 4]}).intrinsics == (1.0, 2.0, 3.0, 4.0)


def test_intrinsics_may_be_followed_by_the_distortion() -> None:
    config = load_config(None, {"intrinsics": "500,501,320,240,0.1,-.2,0,1e-3"})
    assert config.intrinsics == (500.0, 501.0, 320.0, 240.0)
    assert config.distortion == "radtan:0.1,-0.2,0.0,0.001"
    overridden = load_config(None, {"intrinsics": "500,501,320,240,0.1,-.2,0,0", "distortion": "none"})
    assert overridden.distortion == "none"
    assert load_config(None, config.model_dump(mode="json")) == config


def test_intrinsics_may_be_a_file_which_is_found_from_everywhere() -> None:
    assert load_config(None, {"intrinsics": "calib/K.txt"}).intrinsics == os.path.abspath("calib/K.txt")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("0.1,0,0,0,0.5", "radtan:0.1,0.0,0.0,0.0,0.5"),
        ([0.1, 0, 0, 0], "radtan:0.1,0.0,0.0,0.0"),
        ("radtan:0.1,0,0,0", "radtan:0.1,0.0,0.0,0.0"),
        ("equidistant:0.1,0,0,0", "equidistant:0.1,0.0,0.0,0.0"),
        ("none", "none"),
    ],
)
def test_distortion_has_one_way_of_writing(given: object, meant: str) -> None:
    assert load_config(None, {"intrinsics": "5,5,3,2", "distortion": given}).distortion == meant


@pytest.mark.parametrize(
    ("size", "overlap", "frames"),
    [(60, None, 30), (61, None, 30), (4, None, 2), (3, None, 1), (60, 1, 1), (60, 58, 58)],
)
def test_the_overlap_in_frames(size: int, overlap: int | None, frames: int) -> None:
    assert ChunkingConfig(chunk_size=size, overlap=overlap).overlap_of(size) == frames


def test_the_overlap_of_chunks_that_became_shorter() -> None:
    config = ChunkingConfig(chunk_size=60, overlap=20)
    assert [config.overlap_of(size) for size in (40, 22, 21, 10, 3)] == [20, 20, 10, 5, 1]


def test_a_configuration_cannot_be_changed_by_accident() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_config().chunk_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "spelling", ["da3-large", "DA3-LARGE", "DA3-LARGE-1.1", "depth-anything/DA3-LARGE-1.1"]
)
def test_models_may_be_spelt_as_their_repositories(spelling: str) -> None:
    assert load_config(None, {"model": spelling}).model == "da3-large"


def test_weights_are_a_seed_or_a_path_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(None, {"weights": "seeded:3"}).weights == "seeded:3"
    assert load_config(None, {"weights": "held/x"}).weights == str(tmp_path / "held" / "x")
    monkeypatch.setenv("HOME", "/somewhere")
    assert load_config(None, {"weights": "~/x"}).weights == "/somewhere/x"
    assert load_config().weights is None


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_devices(device: str) -> None:
    assert load_config(None, {"device": device}).device == device


def test_every_model_with_poses_can_be_chosen() -> None:
    from da3stream.config.model import TEST_MODELS, ModelName
    from da3stream.estimation.da3.catalogue import MODELS

    published = {model.name for model in MODELS if model.has_poses}
    assert set(get_args(ModelName)) == published | {"auto", "classical"}
    for name in TEST_MODELS:
        assert load_config(None, {"model": name}).model == name


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90", 90.0), (90, 90.0), ("1:30", 90.0), ("0:02:05.5", 125.5), ("100:00", 6000.0), ("1:00:00", 3600.0)],
)
def test_times_are_seconds_or_what_a_player_shows(given: object, seconds: float) -> None:
    assert load_config(None, {"start": given}).start == seconds


def test_times_in_files_mean_the_same(write: Any) -> None:
    """YAML 1.1 reads 1:30 as a number of base 60, which comes to the same."""
    config = load_config(write("start: 1:30\nend: 0:02:05.5\n"))
    assert (config.start, config.end) == (90.0, 125.5)


@pytest.mark.parametrize(
    "wrong", ["1:60", "1:70:00", "-1:30", "1:30:", ":30", "1:2:3:4", "1m30s", "1_0", "1_0:00", "", True]
)
def test_times_that_are_none(wrong: object) -> None:
    with pytest.raises(ConfigError, match=r"end: Input should be seconds or \[h:\]mm:ss\[\.f\]"):
        load_config(None, {"end": wrong})


@pytest.mark.parametrize("name", ["vram", "disk"])
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("10", "10GB"),
        (10, "10GB"),
        ("12 GiB", "12GB"),
        ("800MB", "0.78125GB"),
        ("2TB", "2048GB"),
        (0.5, "0.5GB"),
        ("999999", "999999GB"),
    ],
)
def test_sizes_have_one_way_of_writing(name: str, given: object, meant: str) -> None:
    config = load_config(None, {name: given})
    assert getattr(config, name) == meant
    assert load_config(None, config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    "wrong", ["0", "10B", "1KB", "0.001MB", "ten", "-1", "nan", "2000000", "999999.9", "1_0", "9" * 400, True]
)
def test_sizes_that_are_none(wrong: object) -> None:
    with pytest.raises(ConfigError, match="disk: Input should be an amount such as 10GB"):
        load_config(None, {"disk": wrong})


def test_a_time_beyond_all_numbers_is_none() -> None:
    for given in ("9" * 400, f"{'9' * 400}:00", f"{'9' * 400}:00:00", f"{'9' * 5000}:00:00"):
        with pytest.raises(ConfigError, match="start: Input should be a finite number"):
            load_config(None, {"start": given})


# What is wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"chunksize": 60}, "unknown option 'chunksize'"),
        ({"chunk_size": "many"}, "chunk_size: .*valid integer.*got 'many'"),
        ({"chunk_size": 30.5}, "chunk_size: .*integer.*got 30.5"),
        ({"chunk_size": [60]}, "chunk_size: .*integer"),
        ({"chunk_size": None}, "chunk_size: .*integer.*got None"),
        ({"chunk_size": 2}, "chunk_size: .*greater than or equal to 3, or max, got 2"),
        ({"chunk_size": 10, "overlap": 9}, r"overlap \(9\) must be at most 8, two less than chunk_size"),
        ({"overlap": 59}, r"overlap \(59\) must be at most 58, two less than chunk_size"),
        ({"overlap": 0}, "overlap: .*greater than or equal to 1"),
        ({"start": 10, "end": 10}, r"end \(10.0\) must be greater than start \(10.0\)"),
        ({"start": 10, "end": 3}, r"end \(3.0\) must be greater than start \(10.0\)"),
        ({"start": -1}, "start: .*greater than or equal to 0"),
        ({"fps": 5, "every": 2}, "fps and every exclude each other"),
        ({"fps": 0}, "fps: .*greater than 0"),
        ({"every": 0}, "every: .*greater than or equal to 1"),
        ({"model": "tiny2"}, "model: Input should be 'auto', .*'da3nested-giant-large', got 'tiny2'"),
        ({"fps": "nan"}, "fps: .*finite"),
        ({"end": float("inf")}, "end: .*finite"),
        ({"select": "some"}, "select: .*'auto'.*'all'"),
        ({"model": "best"}, "model: .*got 'best'"),
        ({"model": "DA3METRIC-LARGE"}, r"model: it has no poses.*`da3stream depth` or `--metric`"),
        ({"model": "da3mono-large"}, "model: it has no poses.*got 'da3mono-large'"),
        ({"model": 3}, "model: .*got 3"),
        ({"device": "gpu"}, "device: Input should be auto, cpu, cuda or cuda:N, got 'gpu'"),
        ({"device": "cuda:x"}, "device: Input should be"),
        ({"pose_head": "both"}, "pose_head: .*'camera' or 'ray'"),
        ({"reference_view": "last"}, "reference_view: .*'saddle_balanced'"),
        ({"place": "netvlad"}, "place: .*'vlad'.*got 'netvlad'"),
        ({"loop": "sometimes"}, "loop: .*boolean.*got 'sometimes'"),
        ({"attention": "flash"}, "attention: .*'sdpa' or 'xformers'"),
        ({"export": "poses,stl"}, "export: .*got 'stl'"),
        ({"intrinsics": "500,500,320"}, "intrinsics: Input should be fx,fy,cx,cy or .*got '500,500,320'"),
        ({"intrinsics": "500,500,320,240,1"}, "intrinsics: Input should be fx,fy,cx,cy or"),
        ({"intrinsics": "500,nan,320,240"}, "intrinsics: Input should be"),
        ({"intrinsics": ["a", 1, 2, 3]}, "intrinsics: Input should be"),
        ({"distortion": "0.1,0,0,0"}, "distortion needs intrinsics"),
        ({"intrinsics": "5,5,3,2", "distortion": "0.1,0,0"}, "distortion: Input should be none, k1,k2,p1,p2"),
        ({"intrinsics": "5,5,3,2", "distortion": "fov:0.1,0,0,0"}, "distortion: Input should be none"),
        ({"intrinsics": "500,0,320,240"}, "intrinsics must be four positive numbers"),
        ({"confidence_percentile": 100}, "confidence_percentile: .*less than 100"),
        ({"voxel_size": 0}, "voxel_size: .*greater than 0"),
        ({"voxel_size": "small"}, "voxel_size: .*greater than 0, or auto, got 'small'"),
        ({"voxel_size": ".inf"}, "voxel_size: .*greater than 0"),
        ({"edge_angle": 90}, "edge_angle: .*less than 90"),
        ({"outlier_sigma": -1}, "outlier_sigma: .*greater than or equal to 0"),
    ],
)
def test_wrong_values_are_explained(overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        load_config(None, overrides)
    assert "\n" not in str(caught.value)
    assert "da3stream run --help" in str(caught.value)


def test_all_complaints_come_at_once() -> None:
    with pytest.raises(ConfigError, match=r"fps: .*; unknown option 'colour'"):
        load_config(None, {"fps": -1, "colour": 1})


def test_what_is_wrong_in_a_file_is_named_with_the_file(write: Any) -> None:
    path = write("fps: 5\nmax_frames: 0\n")
    with pytest.raises(ConfigError, match=rf"max_frames in {re.escape(str(path))}: Input should be"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"^max_frames: Input"):
        load_config(path, {"max_frames": -1})
    with pytest.raises(ConfigError, match=r"^fps in indoor and every exclude each other"):
        load_config("indoor", {"every": 2})


def test_a_misspelt_option_is_answered_with_the_one_that_was_meant() -> None:
    with pytest.raises(ConfigError, match="unknown option 'chunk-size', did you mean 'chunk_size'"):
        load_config(None, {"chunk-size": 60})


@pytest.mark.parametrize("text", ["- chunk_size\n- 60\n", "chunk_size", "60", "60: chunk_size\n"])
def test_a_file_that_is_no_list_of_options(write: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=r"options\.yaml is no list of options; expected lines like"):
        load_config(write(text))


@pytest.mark.parametrize("text", ["chunk_size: [1, 2", "a: b: c", "\tchunk_size: 3", "chunk_size: @1"])
def test_broken_yaml_is_an_error_of_one_line(write: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration file .*options\.yaml") as caught:
        load_config(write(text))
    assert "\n" not in str(caught.value)


def test_an_option_given_twice_is_an_error(write: Any) -> None:
    with pytest.raises(ConfigError, match=r"options\.yaml.*'fps'.*twice"):
        load_config(write("fps: 5\nchunk_size: 30\nfps: 10\n"))


@pytest.mark.parametrize(
    "tag", ["!!python/object/apply:os.getcwd []", "!!python/name:os.system", "!!python/tuple [1]"]
)
def test_yaml_cannot_run_code(write: Any, tag: str) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        load_config(write(f"fps: {tag}"))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "options.yaml").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        load_config(tmp_path / "options.yaml")


def test_a_missing_file_is_answered_with_the_presets(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no configuration file or preset .*missing.*12gb, cpu, default"):
        load_config(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match=r"no configuration file or preset 'outdoor'"):
        load_config("outdoor")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the configuration file"):
        load_config(tmp_path)


def test_errors_of_the_configuration_are_errors_of_ours() -> None:
    assert issubclass(ConfigError, Da3StreamError)
