"""Presets, configuration files and overrides: the latter win."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from da3stream.config.model import Config
from da3stream.errors import ConfigError, option


def _presets() -> Path:
    """The folder of presets: in an installed package inside it, in a checkout configs/ at the root."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def preset_names() -> tuple[str, ...]:
    """Names of the presets that ship with the package."""
    return tuple(sorted(path.stem for path in _presets().glob("*.yaml")))


def load_config(path: str | Path | None = None, overrides: Mapping[str, Any] | None = None) -> Config:
    """Read a configuration.

    Args:
        path: a YAML file, or the name of a preset (`preset_names()`); None: the defaults.
        overrides: option names and values that win over the file.

    Raises:
        ConfigError: the file cannot be read, an option is unknown, or a value is not allowed.
    """
    in_file = {} if path is None else _read_yaml(path)
    overrides = overrides or {}
    try:
        return Config(**{**in_file, **overrides})
    except ValidationError as error:
        where = {name: f" in {path}" for name in in_file if name not in overrides}
        what = _explain(error, where)
        raise ConfigError(what, hint="`da3stream run --help` lists the options.") from None


def _read_yaml(path: str | Path) -> dict[str, Any]:
    preset = _presets() / f"{path}.yaml"
    file = preset if str(path) in preset_names() else Path(path)
    try:
        content = _StrictLoader(file.read_text(encoding="utf-8")).get_single_data()
    except FileNotFoundError:
        raise ConfigError(
            f"there is no configuration file or preset {str(path)!r}",
            expected=f"a YAML file or one of {', '.join(preset_names())}",
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(
            f"cannot read the configuration file {path}: {' '.join(str(error).split())}"
        ) from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigError(f"{path} is no list of options", expected="lines like `chunk_size: 60`")
    return content


class _StrictLoader(yaml.SafeLoader):
    """Builds plain values only, and takes an option that is given twice for a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.YAMLError(f"{twice[0]!r} is given twice {node.start_mark}")
        return super().construct_mapping(node, deep)


def _explain(error: ValidationError, where: Mapping[str, str]) -> str:
    """All complaints of pydantic in one line. `where` says of options that they are from a file."""
    complaints = []
    for issue in error.errors():
        name = str(issue["loc"][0]) if issue["loc"] else None
        if issue["type"] == "extra_forbidden":
            complaints.append(f"unknown option {name!r}{where.get(str(name), '')}{_meant(str(name))}")
        elif name is not None:
            complaints.append(f"{option(name)}: {issue['msg']}, got {issue['input']!r}")
        else:
            complaints.append(issue["msg"].removeprefix("Value error, "))
    what = "; ".join(complaints)
    for name, place in where.items():
        what = what.replace(option(name), f"{name}{place}")
    return what


def _meant(name: str) -> str:
    """The option that looks most like a misspelt one, as a question."""
    similar = get_close_matches(name.replace("-", "_"), Config.model_fields, n=1)
    return f", did you mean {similar[0]!r}?" if similar else ""
