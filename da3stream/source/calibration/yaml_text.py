"""YAML as OpenCV writes it and as everybody else does."""

from __future__ import annotations

import re
from typing import Any

import yaml

from da3stream.errors import FormatError


def parse_yaml(text: str, path: str) -> dict[str, Any]:
    """The fields of a YAML file; plain values only, nothing is constructed.

    OpenCV begins files with `%YAML:1.0`, which is no YAML, and marks matrices with `!!opencv-matrix`: these
    become mappings with rows, cols and data.

    Raises:
        FormatError: it is no YAML, or no list of fields.
    """
    body = re.sub(r"\A%YAML[: ][^\n]*\n", "", text)
    try:
        content = yaml.load(body, Loader=_OpenCvLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise FormatError(f"{path} is no valid YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(content, dict):
        raise FormatError(f"{path} holds no YAML fields", got=type(content).__name__, expected="name: value")
    return {str(name): value for name, value in content.items()}


class _OpenCvLoader(yaml.SafeLoader):
    """Builds plain values, and mappings of OpenCV's matrices."""

    def matrix(self, node: yaml.Node) -> Any:
        """Mapping of a matrix."""
        assert isinstance(node, yaml.MappingNode)
        return self.construct_mapping(node, deep=True)


_OpenCvLoader.add_constructor("tag:yaml.org,2002:opencv-matrix", _OpenCvLoader.matrix)
