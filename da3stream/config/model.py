"""The options, a section for each stage. `Config` is all of them, flat; a stage takes its own section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def _split(value: object) -> object:
    """`a,b` from the command line and lists from files mean the same."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceConfig(_Section):
    """Which frames are taken, and at what size."""

    start: float | None = Field(None, ge=0, description="Skip what lies before this time, in seconds.")
    end: float | None = Field(None, gt=0, description="Skip what lies at or after this time, in seconds.")
    fps: float | None = Field(
        None,
        gt=0,
        description="Take at most this many frames a second of video. For an image folder without times: its "
        "rate.",
    )
    every: int | None = Field(None, ge=1, description="Take every N-th frame.")
    max_frames: int | None = Field(None, ge=1, description="Stop after this many selected frames.")
    select: Literal["auto", "all"] = Field(
        "auto",
        description="auto: all images of a folder, at most 10 frames a second of a video. all: every frame.",
    )
    resolution: int = Field(
        504,
        ge=28,
        le=4096,
        description="Longest side in pixels at which frames are processed; both sides become multiples "
        "of 14.",
    )

    @model_validator(mode="after")
    def _check_selection(self) -> SourceConfig:
        if self.start is not None and self.end is not None and self.end <= self.start:
            raise ValueError(f"end ({self.end}) must be greater than start ({self.start})")
        if self.fps is not None and self.every is not None:
            raise ValueError("fps and every exclude each other")
        return self


class ChunkingConfig(_Section):
    """How frames are grouped."""

    chunk_size: int = Field(60, ge=3, description="Frames that are reconstructed together.")
    overlap: int | None = Field(
        None,
        ge=1,
        description="Frames that a chunk shares with the one before; default: half of the chunk size.",
    )

    @model_validator(mode="after")
    def _check_overlap(self) -> ChunkingConfig:
        if self.overlap is not None and self.overlap > self.chunk_size - 2:
            raise ValueError(
                f"overlap ({self.overlap}) must be at most chunk_size - 2 ({self.chunk_size - 2})"
            )
        return self

    @property
    def overlap_frames(self) -> int:
        """The overlap in frames, the default resolved."""
        return min(self.chunk_size // 2, self.chunk_size - 2) if self.overlap is None else self.overlap


class EstimationConfig(_Section):
    """How geometry is estimated."""

    model: Literal["auto", "classical"] = Field(
        "auto",
        description="Estimator. classical: structure from motion and dense stereo, no weights, no GPU.",
    )
    intrinsics: Annotated[tuple[float, float, float, float] | None, BeforeValidator(_split)] = Field(
        None,
        description="Known camera as fx,fy,cx,cy in pixels of the input images (centre of the top-left "
        "pixel: 0.5, 0.5).",
    )

    @model_validator(mode="after")
    def _check_intrinsics(self) -> EstimationConfig:
        if self.intrinsics is not None and min(self.intrinsics) <= 0:
            raise ValueError(f"intrinsics must be four positive numbers fx,fy,cx,cy, got {self.intrinsics}")
        return self


ExportName = Literal["poses", "tum", "kitti", "cameras", "pcd", "colmap"]


class OutputConfig(_Section):
    """What is written."""

    export: Annotated[tuple[ExportName, ...], BeforeValidator(_split)] = Field(
        ("poses", "tum", "kitti", "cameras", "pcd", "colmap"),
        description="Formats to write, separated by commas.",
    )
    keep: Literal["none", "reduced", "full"] = Field(
        "reduced",
        description="What stays in the run directory: nothing but the outputs; the reduced depth (allows "
        "`export` later); or full-size depth too (results_output/).",
    )
    colmap_images: int = Field(
        2000,
        ge=0,
        description="At most this many images in colmap/, evenly spread over the distance travelled.",
    )
    max_points: int = Field(10_000_000, ge=1, description="At most this many points in pcd/combined_pcd.ply.")
    confidence_percentile: float = Field(
        40.0,
        ge=0,
        lt=100,
        description="Leave out this share of the points, the least confident ones, in percent.",
    )
    voxel_size: float | None = Field(
        None, gt=0, description="Thin the cloud to one point per cube of this side, in world units."
    )


class Config(OutputConfig, EstimationConfig, ChunkingConfig, SourceConfig):
    """All options, flat."""
