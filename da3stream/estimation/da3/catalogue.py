"""The published DA3 models: what they are called, where they live, what they may be used for."""

from __future__ import annotations

from dataclasses import dataclass

ORGANISATION = "depth-anything"
APACHE = "Apache-2.0"
NON_COMMERCIAL = "CC BY-NC 4.0"
_BYTES_PER_VALUE = 4  # published in float32


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownModel:
    """One published model.

    Attributes:
        name: as `--model` takes it and as `model_name` of the hub's config.json says it.
        repository: on the Hugging Face hub, `organisation/name`.
        parameters: number of values in the checkpoint.
        licence: short name of the licence of the weights.
        is_metric: depth comes out in metres, once the focal length is applied where poses are not part of it.
        has_poses: reconstructs several views, with poses and intrinsics; otherwise depth of single images.
    """

    name: str
    repository: str
    parameters: int
    licence: str
    is_metric: bool
    has_poses: bool

    @property
    def size_bytes(self) -> int:
        """Size of the published checkpoint, without its header."""
        return self.parameters * _BYTES_PER_VALUE

    @property
    def allows_commercial_use(self) -> bool:
        return self.licence != NON_COMMERCIAL


def _model(
    repository: str,
    parameters: int,
    licence: str,
    *,
    is_metric: bool = False,
    has_poses: bool = True,
) -> KnownModel:
    return KnownModel(
        name=repository.lower().removesuffix("-1.1"),
        repository=f"{ORGANISATION}/{repository}",
        parameters=parameters,
        licence=licence,
        is_metric=is_metric,
        has_poses=has_poses,
    )


MODELS = (
    _model("DA3-SMALL", 34_299_463, APACHE),
    _model("DA3-BASE", 135_366_599, APACHE),
    _model("DA3-LARGE-1.1", 410_941_767, NON_COMMERCIAL),
    _model("DA3-GIANT-1.1", 1_355_674_125, NON_COMMERCIAL),
    _model("DA3NESTED-GIANT-LARGE-1.1", 1_689_845_519, NON_COMMERCIAL, is_metric=True),
    _model("DA3METRIC-LARGE", 334_171_394, APACHE, is_metric=True, has_poses=False),
    _model("DA3MONO-LARGE", 334_171_394, APACHE, has_poses=False),
)
"""All of them, small to large."""


def find_model(name: str) -> KnownModel | None:
    """The model of this name: ours or the repository's, with or without organisation, in any case."""
    wanted = name.lower().removeprefix(f"{ORGANISATION}/")
    return next((model for model in MODELS if wanted in _names(model)), None)


def _names(model: KnownModel) -> tuple[str, str]:
    return model.name, model.repository.split("/")[1].lower()


def model_names() -> str:
    """All names for a message: `da3-small, da3-base, ...`."""
    return ", ".join(model.name for model in MODELS)
