"""The import rules of the design: what may know what, and what must stay cheap to import."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import da3stream

PACKAGE = Path(da3stream.__file__).parent
LEAVES = {"geometry", "imaging", "features", "drawing", "errors", "child_process"}
STAGES = {"source", "chunking", "estimation", "place", "alignment", "loop_closure", "optimisation"}
STAGES |= {"assembly", "store", "writers"}
NETWORK_STAGES = {"estimation", "place"}
PROTOCOLS = {"da3stream.source.base", "da3stream.estimation.base", "da3stream.place.base"}
RARE = (
    "faiss",
    "open3d",
    "ray",
    "viser",
    "zmq",
    "msgpack",
    "trimesh",
    "OpenEXR",
    "rerun",
    "mcap_protobuf",
    "rosbags",
)
HEAVY = ("torch", "pycolmap", "cv2", "scipy", "av", "faiss", "zmq", "trimesh")


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """`da3stream.store.files` -> `store`; the package itself -> ``."""
    return [*module.split("."), ""][1]


def imports_of(file: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever in it, for type checkers only too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            assert node.module is not None
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


FILES = sorted(PACKAGE.rglob("*.py"))
MODULES = {module_of(file) for file in FILES}
IMPORTS = {file: set(imports_of(file)) for file in FILES}
OURS = {
    file: {name for name in names if name.split(".")[0] == "da3stream"} for file, names in IMPORTS.items()
}
LIBRARIES = {module_of(file): {name.split(".")[0] for name in names} for file, names in IMPORTS.items()}


def wrong(allowed: dict[Path, set[str]]) -> list[str]:
    """Imports of ours that go beyond the allowed parts, as `file imports module`."""
    return [
        f"{file.relative_to(PACKAGE)} imports {name}"
        for file, parts in allowed.items()
        for name in sorted(OURS[file])
        if part_of(name) not in parts and name not in PROTOCOLS
    ]


def files_of(part: str) -> list[Path]:
    return [file for file in FILES if part_of(module_of(file)) == part]


def test_the_parts_that_the_rules_name_exist() -> None:
    """Otherwise the tests below would hold for a package that has renamed everything."""
    found = {part_of(module) for module in MODULES}
    others = {"transformer", "scene", "config", "pipeline", "cli"}
    assert found >= (LEAVES | STAGES | others)


@pytest.mark.parametrize("part", sorted(LEAVES))
def test_leaves_import_nothing_of_ours(part: str) -> None:
    assert wrong({file: {part} for file in files_of(part)}) == []
    assert not any(OURS[file] & PROTOCOLS for file in files_of(part))


def test_the_transformer_is_a_leaf_that_knows_errors_only() -> None:
    bare_package = ""  # to find the package's folder
    assert wrong({file: {"transformer", "errors", bare_package} for file in files_of("transformer")}) == []
    assert not any(OURS[file] & PROTOCOLS for file in files_of("transformer"))


def test_the_transformer_is_imported_by_the_networks_and_the_command_line_only() -> None:
    users = {part_of(module_of(file)) for file in FILES if "transformer" in map(part_of, OURS[file])}
    assert users <= NETWORK_STAGES | {"transformer", "cli"}


def test_scene_knows_geometry_only() -> None:
    assert wrong({file: {"scene", "geometry"} for file in files_of("scene")}) == []
    assert not any(OURS[file] & PROTOCOLS for file in files_of("scene"))


def test_config_knows_errors_only() -> None:
    assert wrong({file: {"config", "errors"} for file in files_of("config")}) == []


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_do_not_know_each_other(stage: str) -> None:
    bare_package = ""  # `import da3stream`, which loads nothing, to find the package's folder
    allowed = {stage, "scene", "config", bare_package} | LEAVES
    if stage in NETWORK_STAGES:
        allowed.add("transformer")
    assert wrong(dict.fromkeys(files_of(stage), allowed)) == []


def test_protocols_know_the_data_types_only() -> None:
    for module in PROTOCOLS:
        file = PACKAGE.parent.joinpath(*module.split(".")).with_suffix(".py")
        assert {part_of(name) for name in OURS[file]} <= {"scene"}


def test_nothing_but_the_command_line_imports_the_command_line() -> None:
    users = {part_of(module_of(file)) for file in FILES if "cli" in map(part_of, OURS[file])}
    assert users == {"cli", "__main__"}


def test_the_pipeline_is_imported_from_above_only() -> None:
    above = {"", "cli", "pipeline", "executors", "viewing"}
    users = {part_of(module_of(file)) for file in FILES if "pipeline" in map(part_of, OURS[file])}
    assert users <= above


@pytest.mark.parametrize("library", RARE)
def test_heavy_libraries_are_imported_in_few_files(library: str) -> None:
    users = [module for module, libraries in LIBRARIES.items() if library in libraries]
    assert len(users) <= 2, users


def test_torch_is_imported_by_the_networks_only() -> None:
    users = {module for module, libraries in LIBRARIES.items() if "torch" in libraries}
    assert users
    networks = (
        "da3stream.transformer.",
        "da3stream.estimation.da3.",
        "da3stream.estimation.memory",
        "da3stream.place.salad.",
    )
    assert {name for name in users if not name.startswith(networks)} == set()


@pytest.mark.parametrize("name", ["pickle", "marshal", "shelve", "dill", "joblib"])
def test_nothing_is_pickled(name: str) -> None:
    assert [module for module, libraries in LIBRARIES.items() if name in libraries] == []


def loaded_by(code: str) -> set[str]:
    """Which of HEAVY a fresh interpreter has loaded after some code."""
    report = f"import sys\nprint(sorted(sys.modules.keys() & set({HEAVY!r})), file=sys.stderr)"
    script = f"try:\n    {code}\nexcept SystemExit as end:\n    assert not end.code, end.code\n{report}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True
    )
    return set(ast.literal_eval(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import da3stream; dir(da3stream)",
        "import da3stream; da3stream.load_config('indoor')",
        "from da3stream.cli import main; main(['--help'])",
        "from da3stream.cli import main; main(['--version'])",
        "from da3stream.cli import main; main(['run', '--help'])",
        "from da3stream.cli import main; main(['resume', '--help'])",
        "from da3stream.cli import main; main(['export', '--help'])",
        "from da3stream.cli import main; main(['align', '--help'])",
        "from da3stream.cli import main; main(['report', '--help'])",
        "from da3stream.cli import main; main(['eval', '--help'])",
        "from da3stream.cli import main; main(['info', '--help'])",
        "from da3stream.cli import main; main(['demo', '--help'])",
        "from da3stream.cli import main; main(['view', '--help'])",
        "from da3stream.cli import main; main(['weights', '--help'])",
        "from da3stream.cli import main; main(['depth', '--help'])",
        "from da3stream.cli import main; main(['intrinsics', '--help'])",
    ],
)
def test_help_is_cheap(code: str) -> None:
    assert loaded_by(code) == set()


def test_the_probe_notices_a_heavy_library() -> None:
    assert "scipy" in loaded_by("from da3stream.geometry import sim3")


def test_exported_names_exist_and_are_the_public_api() -> None:
    assert set(dir(da3stream)) == {*da3stream.__all__, "__version__"}
    for name in da3stream.__all__:
        assert getattr(da3stream, name) is not None
    for name in (
        "reconstruct",
        "stream",
        "load_config",
        "Config",
        "Frame",
        "Prediction",
        "KnownCameras",
        "Sim3",
    ):
        assert name in da3stream.__all__
    with pytest.raises(AttributeError, match="has no attribute 'reconstrut'"):
        _ = da3stream.reconstrut  # type: ignore[attr-defined]
