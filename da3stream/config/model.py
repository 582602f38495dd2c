"""The options, a section for each stage. `Config` is all of them, flat; a stage takes its own section."""

from __future__ import annotations

import contextlib
import math
import os
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from da3stream.errors import option

SHORTEST_CHUNK = 3
DEFAULT_CHUNK_SIZE = 60
"""Frames."""


def _split(value: object) -> object:
    """`a,b` from the command line and lists from files mean the same."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _model_name(value: object) -> object:
    """Names of the hub's repositories, in any case, with or without organisation, mean the model."""
    name = str(value).lower().removeprefix("depth-anything/").removesuffix("-1.1")
    if name in ("da3metric-large", "da3mono-large"):
        raise PydanticCustomError(
            "single_view",
            "it has no poses, so it cannot reconstruct alone; use it through `da3stream depth` or `--metric`",
        )
    if name not in (*get_args(ModelName), *TEST_MODELS):
        names = ", ".join(map(repr, get_args(ModelName)))
        raise PydanticCustomError("model", "Input should be {names}", {"names": names})
    return name


def _weights(value: str | None) -> str | None:
    """A path, or seeded:N."""
    return value if value is not None and value.startswith("seeded:") else _path(value)


def _path(value: str | None) -> str | None:
    """Made absolute, so that a run can be resumed from another folder."""
    return None if value is None else os.path.abspath(os.path.expanduser(value))


def _number(value: Any) -> float:
    """A number, or what a user calls one: Python's `1_0` is none. ValueError and TypeError as `float`."""
    if isinstance(value, str) and "_" in value:
        raise ValueError(f"{value!r} is no number")
    return float(value)


def _intrinsics(value: object) -> object:
    """Numbers, from text or a list; other text is a file, made absolute as weights are."""
    parts = value.split(",") if isinstance(value, str) else value
    if value is None or not isinstance(parts, list | tuple):
        return value
    try:
        numbers = tuple(map(_number, parts))
    except (TypeError, ValueError):
        if isinstance(value, str) and value.strip():
            return _path(value)
        numbers = ()
    if len(numbers) not in (4, 8) or not all(map(math.isfinite, numbers)):
        raise PydanticCustomError(
            "intrinsics", "Input should be fx,fy,cx,cy or fx,fy,cx,cy,k1,k2,p1,p2 or a calibration file"
        )
    return numbers


_COEFFICIENTS = {"radtan": (4, 5), "equidistant": (4, 4)}
"""Models of distortion, and the fewest and the most coefficients that they have."""


def _distortion(value: object) -> object:
    """`none`, or `model:numbers` in one way of writing."""
    if value is None or value == "none":
        return value
    if isinstance(value, list | tuple):
        value = ",".join(map(str, value))
    model, _, text = str(value).rpartition(":")
    fewest, most = _COEFFICIENTS.get(model or "radtan", (1, 0))
    try:
        numbers = [_number(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not fewest <= len(numbers) <= most or not all(map(math.isfinite, numbers)):
        raise PydanticCustomError(
            "distortion", "Input should be none, k1,k2,p1,p2[,k3] or equidistant:k1,k2,k3,k4"
        )
    return f"{model or 'radtan'}:{','.join(map(repr, numbers))}"


def _chunk_size(value: object) -> object:
    number = int(value) if isinstance(value, str) and value.isdecimal() else value
    if value == "max" or (type(number) is int and number >= SHORTEST_CHUNK):
        return number
    raise PydanticCustomError(
        "chunk_size", "Input should be a valid integer greater than or equal to 3, or max"
    )


def _voxel_size(value: object) -> object:
    """Text from the command line and numbers from files mean the same."""
    if value is None or value == "auto":
        return value
    try:
        side = _number(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        side = math.nan
    if not 0 < side < math.inf:
        raise PydanticCustomError("voxel_size", "Input should be a number greater than 0, or auto")
    return side


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise PydanticCustomError("device", "Input should be auto, cpu, cuda or cuda:N")
    return value


_BYTES_IN = {"T": 2**40, "G": 2**30, "M": 2**20}
_FEWEST_BYTES, _MOST_BYTES = 2**17, (10**6 - 1) * 2**30
"""What six digits of a GB can tell without an exponent."""


def memory_bytes(text: str) -> int:
    """Bytes of `12GB`, `12 GiB`, `12` (all 12 * 2^30), `800MB` or `2TB`. ValueError for anything else."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([TGM])i?B?)?", text.strip(), re.IGNORECASE)
    count = 0.0 if match is None else float(match[1]) * _BYTES_IN[(match[2] or "G").upper()]
    if not _FEWEST_BYTES <= count <= _MOST_BYTES:
        raise ValueError("Input should be an amount such as 10GB, 128 KB at least (a bare number counts GB)")
    return int(count)


def _memory(value: object) -> object:
    """Text, or a number of GB, in one way of writing."""
    if value is None:
        return value
    text = str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    try:
        return f"{memory_bytes(text) / 2**30:.6g}GB"
    except ValueError as error:
        raise PydanticCustomError("memory", "{reason}", {"reason": str(error)}) from None


def _seconds(value: object) -> object:
    """Seconds of a number or of `[h:]mm:ss[.f]`."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    text = value.strip() if isinstance(value, str) else ""
    match = re.fullmatch(r"(?:(\d+):)?(\d+):(\d\d?(?:\.\d+)?)", text)
    if match is not None:
        hours, minutes, seconds = float(match[1] or 0), float(match[2]), float(match[3])
        if seconds < 60 and (match[1] is None or minutes < 60):
            return 3600 * hours + 60 * minutes + seconds
    else:
        with contextlib.suppress(ValueError):
            return _number(text)
    raise PydanticCustomError("seconds", "Input should be seconds or [h:]mm:ss[.f], 1:30 for example")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


CameraNumbers = tuple[float, float, float, float]
"""fx, fy, cx, cy."""


class CameraConfig(_Section):
    """What is known of the camera."""

    intrinsics: Annotated[CameraNumbers | str | None, BeforeValidator(_intrinsics)] = Field(
        None,
        description="Known camera as fx,fy,cx,cy, optionally followed by the distortion k1,k2,p1,p2, in "
        "pixels of the upright input images (centre of the top-left pixel: 0.5, 0.5). Or a calibration file: "
        "COLMAP cameras.txt, ORB-SLAM3 or Kalibr/OpenVINS YAML, K.txt, KITTI calib.txt, transforms.json, "
        "JSON with a vertical field of view; told apart by what is in them, and rescaled if the input has "
        "another resolution.",
    )
    distortion: Annotated[str | None, BeforeValidator(_distortion)] = Field(
        None,
        description="Lens distortion: k1,k2,p1,p2[,k3] (OpenCV, Kalibr's radtan), equidistant:k1,k2,k3,k4 "
        "(fisheye), or none. Frames, and the images in the outputs, are "
        "undistorted as they are read, so that everything after is a pinhole camera without black borders.",
    )

    @model_validator(mode="before")
    @classmethod
    def _split_distortion(cls, options: Any) -> Any:
        """Of eight numbers the last four are the distortion, unless that is given."""
        if not isinstance(options, dict):
            return options
        try:
            numbers = _intrinsics(options.get("intrinsics"))
        except PydanticCustomError:  # the field says so itself
            return options
        if not isinstance(numbers, tuple) or len(numbers) == 4:
            return options
        given = options.get("distortion")
        return {**options, "intrinsics": numbers[:4], "distortion": numbers[4:] if given is None else given}

    @model_validator(mode="after")
    def _check_camera(self) -> CameraConfig:
        if isinstance(self.intrinsics, tuple) and min(self.intrinsics) <= 0:
            raise ValueError(
                f"{option('intrinsics')} must be four positive numbers fx,fy,cx,cy, got {self.intrinsics}"
            )
        if self.distortion is not None and self.intrinsics is None:
            raise ValueError(
                f"{option('distortion')} needs {option('intrinsics')}: it belongs to a known camera"
            )
        return self

    @property
    def camera_numbers(self) -> CameraNumbers | None:
        """fx, fy, cx, cy in pixels of the input; None: not known. A file must have been read before."""
        assert not isinstance(self.intrinsics, str), "`with_known_camera` reads the file"
        return self.intrinsics


class SourceConfig(CameraConfig):
    """Which frames are taken, and at what size."""

    start: Annotated[float | None, BeforeValidator(_seconds)] = Field(
        None, ge=0, description="Skip what lies before this time: seconds or [h:]mm:ss[.f], as 90 or 1:30."
    )
    end: Annotated[float | None, BeforeValidator(_seconds)] = Field(
        None, gt=0, description="Skip what lies at or after this time: seconds or [h:]mm:ss[.f]."
    )
    fps: float | None = Field(
        None,
        gt=0,
        description="Take at most this many frames a second of video. For an image folder without times: its "
        "rate.",
    )
    every: int | None = Field(None, ge=1, description="Take every N-th frame.")
    max_frames: int | None = Field(None, ge=1, description="Stop after this many selected frames.")
    select: Literal["auto", "all", "motion"] = Field(
        "auto",
        description="all: every frame. motion: a frame once the picture has moved by 1 % of its longer side "
        "since the last one taken; drops standing still, keeps turns. auto: all images of a folder; at most "
        "10 frames a second of a video, and by motion where these would be more than 3,000. --fps and "
        "--every come first; with auto, they alone decide.",
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
            raise ValueError(
                f"{option('end')} ({self.end}) must be greater than {option('start')} ({self.start})"
            )
        if self.fps is not None and self.every is not None:
            raise ValueError(f"{option('fps')} and {option('every')} exclude each other")
        return self


class ChunkingConfig(_Section):
    """How frames are grouped."""

    chunk_size: Annotated[int | Literal["max"], BeforeValidator(_chunk_size)] = Field(
        DEFAULT_CHUNK_SIZE,
        description="Frames that are reconstructed together; fewer where the GPU's memory does not hold "
        "them. max: as many as it holds.",
    )
    overlap: int | None = Field(
        None,
        ge=1,
        description="Frames that a chunk shares with the one before.",
    )
    coarse: int = Field(
        8,
        ge=0,
        description="Reconstruct every N-th frame once more, in chunks that span N times as many frames and "
        "tie the others together: less drift for about 1 / N more work. Switched off where the camera moves "
        "too far in N frames. 0: no coarse chunks.",
    )

    @model_validator(mode="after")
    def _check_coarse(self) -> ChunkingConfig:
        if self.coarse == 1:
            raise ValueError(f"{option('coarse')} must be 0 (no coarse chunks) or at least 2")
        return self

    @model_validator(mode="after")
    def _check_overlap(self) -> ChunkingConfig:
        if self.chunk_size != "max" and self.overlap is not None and self.overlap > self.chunk_size - 2:
            raise ValueError(
                f"{option('overlap')} ({self.overlap}) must be at most {self.chunk_size - 2}, "
                f"two less than {option('chunk_size')}"
            )
        return self

    def overlap_of(self, size: int) -> int:
        """Frames that chunks of this size share: half of them, or as many as were asked for if they fit."""
        half = min(size // 2, size - 2)
        return half if self.overlap is None or self.overlap > size - 2 else self.overlap


ModelName = Literal[
    "auto",
    "classical",
    "da3-small",
    "da3-base",
    "da3-large",
    "da3-giant",
    "da3nested-giant-large",
]
TEST_MODELS = ("tiny", "tiny-gaussians")
"""For tests: there are no weights of these but seeded ones. They can be chosen, and are offered nowhere."""


class EstimationConfig(CameraConfig):
    """How geometry is estimated."""

    model: Annotated[str, BeforeValidator(_model_name)] = Field(
        "auto",
        description="Estimator. da3-small, da3-base, da3-large, da3-giant, da3nested-giant-large: Depth "
        "Anything 3, small to large, the last one in metres (`da3stream weights list`). classical: structure "
        "from motion and dense stereo, no weights, no GPU. auto: the best network that there are weights for "
        "on this machine; with a GPU da3-base is fetched if there are none; else classical.",
    )
    weights: Annotated[str | None, AfterValidator(_weights)] = Field(
        None,
        description="Weights of the network: a .safetensors file or a folder as the hub has it. "
        "seeded:N: pseudo-random ones, which test speed and memory "
        "and know nothing of geometry.",
    )
    device: Annotated[str, AfterValidator(_device)] = Field(
        "auto", description="Where the network runs. auto: on the GPU if there is one."
    )
    pose_head: Literal["camera", "ray"] = Field(
        "camera",
        description="Where the network's cameras come from. camera: its camera head. ray: fitted to the rays "
        "that it predicts all over the image, which is slower and often more accurate.",
    )
    reference_view: Literal["saddle_balanced", "middle", "first"] = Field(
        "saddle_balanced",
        description="The frame of a chunk whose camera the network takes for the origin. saddle_balanced: a "
        "typical one, as published. middle, first: by time.",
    )
    metric: Literal["da3metric-large"] | None = Field(
        None,
        description="Bring the result to metres with a second network that knows how large things are: "
        "da3metric-large. It finds the sky, too.",
    )
    vram: Annotated[str | None, BeforeValidator(_memory)] = Field(
        None,
        description="Memory of the GPU that the run may take, 12GB for example (a GB is 2^30 bytes, "
        "and a bare number counts GB). Chunks become shorter if it is less than they need.",
    )
    attention: Literal["sdpa", "xformers"] = Field(
        "sdpa",
        description="Kernels of the network's attention. sdpa: torch's own. xformers: needs "
        "`pip install 'da3stream[xformers]'`.",
    )
    reuse_features: bool = Field(
        False,
        description="Keep what the network made of each frame by itself for the chunk that shares the frame. "
        "Saves work, and takes up to 6 MB of host memory for each frame of a chunk at 504x280.",
    )

    @property
    def vram_bytes(self) -> int | None:
        """`vram` in bytes."""
        return None if self.vram is None else memory_bytes(self.vram)

    @model_validator(mode="after")
    def _check_metric(self) -> EstimationConfig:
        if self.metric is not None and self.model == "da3nested-giant-large":
            raise ValueError(f"da3nested-giant-large is in metres already; leave {option('metric')} out")
        return self


class KnownConfig(_Section):
    """What is known beforehand, beside the intrinsics."""

    poses: Annotated[str | None, AfterValidator(_path)] = Field(
        None,
        description="Known camera poses: a TUM file (times), a KITTI file (line i is frame i of the source), "
        "a COLMAP model, transforms.json or a run directory (image names). The result lies in their world "
        "frame and unit. Between two TUM poses at most 0.25 s apart they are interpolated.",
    )
    poses_as: Literal["fixed", "prior"] = Field(
        "fixed",
        description="fixed: the poses are exact and kept as they are, and only depth is fitted to them; "
        "every frame needs one, and there are no loops and coarse chunks. prior: they may jitter, drift, be "
        "wrong here and there or be missing for most frames, as those of GPS, odometry or SLAM; the map is "
        "made as without them and pulled to them. Rotations that do not fit the positions, as in files of "
        "GPS positions, are not used. Once it is certain that no frame will have a prior, the run stops.",
    )
    pose_prior_sigma: float | None = Field(
        None,
        gt=0,
        description="Standard deviation of each coordinate of prior positions, in the unit of the poses.",
    )
    pose_offset: float = Field(
        0.0,
        description="Seconds to add to the time of a frame to get the clock of a TUM file. Frames of a video "
        "count from where its container says, 0 as a rule.",
    )
    pose_unit: Literal["auto", "metre", "arbitrary"] = Field(
        "auto",
        description="What the poses are measured in. auto: TUM and KITTI files in metres, others in an "
        "arbitrary unit.",
    )
    masks: Annotated[str | None, AfterValidator(_path)] = Field(
        None,
        description="Folder of masks, black where an image is to be ignored: moving things, the bonnet. "
        "The mask of 0007.jpg is 0007.png or 0007.jpg.png; of frame 123 of a video (from 0, before any "
        "selection) 000123.png. Any size. An image without one is not masked. Depth there is worth nothing, "
        "and classical takes no features there; networks still see it.",
    )

    @model_validator(mode="after")
    def _check_priors(self) -> KnownConfig:
        if self.pose_prior_sigma is not None and self.poses_as != "prior":
            raise ValueError(
                f"{option('pose_prior_sigma')} is that of priors; add {option('poses_as')} prior"
            )
        return self


class LoopConfig(_Section):
    """How places that were seen before are recognised, and what is made of it."""

    loop: bool = Field(True, description="Look for places seen before and close loops.")
    place: Literal["auto", "salad", "vlad", "backbone", "none"] = Field(
        "auto",
        description="What places are recognised by. vlad: local features and a vocabulary that the video "
        "itself teaches, no weights, no GPU. salad: a network trained for it, best with a GPU; its weights "
        "are fetched if need be (`da3stream weights fetch salad`). backbone: what a da3 model makes of each "
        "frame anyway. auto: salad if its weights are on this machine and there is a GPU, else vlad. none: "
        "nothing.",
    )
    loop_budget: float = Field(
        40.0,
        ge=0,
        description="Loops that are verified for every 100 chunks, at most; each takes two fifths of the "
        "frames of a chunk. Beyond 500 chunks their number grows with the root of the length.",
    )
    memory_keyframes: int = Field(
        0,
        ge=0,
        description="Reconstruct every chunk together with up to so many earlier frames that show the same "
        "places, so that revisits are joined at once. They take the places of new frames: 8 in chunks of 60 "
        "that share 30 make up to 36 % more chunks. With --no-loop, 2 do for 4 % more work what loops do for "
        "16 %; beside loops they gain nothing (simulated captures). 0: none.",
    )
    scale_prior: float | None = Field(
        None,
        gt=0,
        description="For models in metres: relative standard deviation of a chunk's scale, 0.05 for example. "
        "Keeps the scale from drifting where no loop is closed.",
    )


ExportName = Literal[
    "poses",
    "tum",
    "kitti",
    "cameras",
    "loops",
    "trajectory",
    "pcd",
    "colmap",
    "ply_chunks",
    "glb",
    "nerfstudio",
    "npz",
    "mini_npz",
    "depth_vis",
    "depth_png",
    "depth_exr",
    "rerun",
    "mcap",
    "ros2bag",
    "gs_ply",
    "mesh",
    "k",
    "orbslam3",
    "openvins",
]


class OutputConfig(_Section):
    """What is written."""

    export: Annotated[tuple[ExportName, ...], BeforeValidator(_split)] = Field(
        ("poses", "tum", "kitti", "cameras", "loops", "trajectory", "pcd", "colmap"),
        description="Formats to write, separated by commas: " + ", ".join(get_args(ExportName)) + ". gs_ply: "
        "3D Gaussians of a giant model for splat viewers. mcap: for Foxglove. Packages of their own are "
        "needed by mesh (`pip install 'da3stream[mesh]'`), rerun (`[rerun]`), mcap (`[mcap]`), ros2bag "
        "(`[ros]`) and depth_exr (`[exr]`).",
    )
    keep: Literal["none", "reduced", "full"] = Field(
        "reduced",
        description="What stays in the run directory: nothing but the outputs; the reduced depth (allows "
        "`export` later); or full-size depth too, which results_output/, npz, mini_npz, depth_vis, "
        "depth_png, depth_exr and nerfstudio then hold.",
    )
    colmap_images: int = Field(
        2000,
        ge=0,
        description="At most this many images in colmap/ and in nerfstudio/, evenly spread over the distance "
        "travelled. 0: points only.",
    )
    max_points: int = Field(
        10_000_000,
        ge=1,
        description="At most this many points in pcd/combined_pcd.ply, and in the files of chunks/ together.",
    )
    colmap_points: Literal["tracks", "dense", "both"] = Field(
        "tracks",
        description="Points of the COLMAP model. tracks: those that are matched in at least three images, so "
        "that COLMAP can adjust the model; takes about a second an image. dense: up to 100,000 points of the "
        "depth without tracks, at no cost. both: these too. With tracks, the dense ones lie beside the model "
        "in points3D.ply.",
    )
    colmap_format: Literal["binary", "text", "both"] = Field(
        "binary",
        description="Files of the COLMAP model. Readers take the binary ones if there are both.",
    )
    camera_model: Literal["PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "OPENCV"] = Field(
        "PINHOLE",
        description="Camera of the COLMAP model. Trainers of 3D Gaussians read the first two. The others "
        "begin without distortion, which --refine ba finds.",
    )
    per_frame_cameras: bool = Field(
        False,
        description="Give every image of the COLMAP model a camera of its own; else all share one. For zoom "
        "lenses and images of several sizes.",
    )
    refine: Literal["none", "ba"] = Field(
        "none",
        description="ba: adjust poses, points and cameras of the COLMAP model to its matches (bundle "
        "adjustment). It is kept if the images fit better and no part of the path is bent by more than its "
        "chunks are uncertain; the other outputs do not change.",
    )
    confidence_percentile: float = Field(
        40.0,
        ge=0,
        lt=100,
        description="Leave out this share of the points, the least confident ones, in percent.",
    )
    max_gaussians: int = Field(
        5_000_000,
        ge=1,
        description="At most this many Gaussians in gs_ply/gaussians.ply: the same share of every frame, "
        "opaque ones more likely than transparent ones.",
    )
    gaussian_degree: Literal[0, 2] = Field(
        0,
        description="Colours of Gaussians. 0: the same from everywhere. 2: they change with the viewing "
        "direction, as the network predicts it, in a file of more than twice the size.",
    )
    mesh_voxel: float | None = Field(
        None,
        gt=0,
        description="Side of the cubes of which the mesh is made, in world units. Half of the "
        "default makes about four times as many triangles.",
    )
    voxel_size: Annotated[float | Literal["auto"] | None, BeforeValidator(_voxel_size)] = Field(
        None,
        description="Thin the cloud to one point per cube of this side, in world units: places that many "
        "frames saw are as dense as all others. auto: about as large as a pixel of the depth maps is there, "
        "larger where that leaves more than --max-points. Without cubes a random share is "
        "taken of more than --max-points points, which needs less memory.",
    )
    edge_angle: float = Field(
        5.0,
        ge=0,
        lt=90,
        description="Leave out flying pixels, which hang in the air between an object and what lies behind "
        "it: the depth steps through them like a surface that is seen at less than this angle, in degrees, "
        "and is but a few pixels wide. The larger, the smaller the steps that count. 0: keep them.",
    )
    outlier_sigma: float = Field(
        0.0,
        ge=0,
        description="Leave out points that float alone: those whose mean distance to their 16 nearest "
        "neighbours is more than so many standard deviations above the mean of the cloud, 3 for example; the "
        "smaller, the more go. Surfaces that are far away or were hardly seen go first, so it is for clouds "
        "of one object or room. It reads all depth once more. 0: keep them.",
    )

    @model_validator(mode="after")
    def _check_refinement(self) -> OutputConfig:
        if self.refine == "ba" and self.colmap_points != "tracks":
            raise ValueError(
                f"{option('refine')} ba moves points with tracks only, the others would not fit any more; "
                f"leave out {option('colmap_points')} {self.colmap_points}"
            )
        return self


OUTPUT_OPTIONS = tuple(
    name for name in OutputConfig.model_fields if name not in ("export", "keep", "gaussian_degree")
)
"""Options that may be others each time that a format is exported. The other three say what a run stores."""


class MeansConfig(_Section):
    """By what means a run is made. They change nothing in its result: a resumed run may have others."""

    executor: Literal["local", "ray"] = Field(
        "local",
        description="Where chunks are estimated. local: in this process. ray: on an existing Ray cluster "
        "(`ray start --head`, or RAY_ADDRESS), one model for each of its GPUs; needs "
        "`pip install 'da3stream[ray]'`. The result is the same.",
    )
    disk: Annotated[str | None, BeforeValidator(_memory)] = Field(
        None,
        description="What the run directory may take on the disk, 50GB for example (a GB is 2^30 "
        "bytes, and a bare number counts GB). It may be more when a run is resumed.",
    )

    @property
    def disk_bytes(self) -> int | None:
        """`disk` in bytes."""
        return None if self.disk is None else memory_bytes(self.disk)


class Config(
    MeansConfig, OutputConfig, LoopConfig, KnownConfig, EstimationConfig, ChunkingConfig, SourceConfig
):
    """All options, flat."""
