"""`da3stream depth`"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from da3stream.errors import ConfigError, InputNotFoundError, RunExistsError, StoreError, WeightsError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from da3stream.estimation.da3.network import Network
    from da3stream.estimation.da3.single_images import ImageGeometry

    Image = NDArray[np.uint8]

FORMATS = ("npz", "mini_npz", "depth_vis")
DEFAULT_MODEL = "da3metric-large"


def _numbers(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...]:
    """`5,11`"""
    if text is None:
        return ()
    if not re.fullmatch(r"\d+(,\d+)*", text):
        raise click.BadParameter(f"{text!r} is no list of numbers like 5,11")
    return tuple(dict.fromkeys(map(int, text.split(","))))


@click.command(context_settings={"show_default": True})
@click.argument("images", metavar="IMAGES...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path, file_okay=False), help="Where to write."
)
@click.option(
    "--model",
    help="A model of `da3stream weights list`.  [default: da3metric-large if its weights are on this "
    "machine, else the largest model whose weights are]",
)
@click.option(
    "--weights",
    metavar="PATH|seeded:N",
    help="A file or folder of weights; seeded:N: pseudo-random ones, for tests.",
)
@click.option("--device", default="auto", metavar="auto|cpu|cuda[:N]", help="Where the network runs.")
@click.option(
    "--resolution",
    type=click.IntRange(28, 4096),
    default=504,
    help="Length in pixels of the side that --resize names; both sides become multiples of 14.",
)
@click.option(
    "--resize",
    type=click.Choice(["upper", "lower"]),
    default="upper",
    help="upper: the longest side gets the resolution. lower: the shortest.",
)
@click.option(
    "--features",
    callback=_numbers,
    metavar="I,J,...",
    help="Also write the normalised patches of these blocks, as feat_layer_I.",
)
@click.option(
    "--pose-head",
    type=click.Choice(["camera", "ray"]),
    default="camera",
    help="Where cameras come from, for models that have poses.",
)
@click.option(
    "--focal",
    "focal_px",
    type=click.FloatRange(min=0, min_open=True),
    metavar="PX",
    help="Focal length in pixels of the input images, for models without cameras.  [default: EXIF's]",
)
@click.option("--to", "formats", default="npz,depth_vis", metavar="A,B,...", help=", ".join(FORMATS) + ".")
@click.option(
    "--overwrite", is_flag=True, help="Replace earlier results in the output folder; other files stay."
)
def command(
    images: tuple[Path, ...],
    output: Path,
    model: str | None,
    weights: str | None,
    device: str,
    resolution: int,
    resize: Literal["upper", "lower"],
    features: tuple[int, ...],
    pose_head: Literal["camera", "ray"],
    focal_px: float | None,
    formats: str,
    overwrite: bool,
) -> None:
    """Depth, confidence, sky and intrinsics of single IMAGES or a small unordered set.

    \b
    da3stream depth photo.jpg -o depth
    da3stream depth a.jpg b.jpg c.jpg -o depth --model da3-base --to npz
    da3stream depth photo.jpg -o depth --model da3metric-large --focal 1432

    Models with poses take all images together, as views of one scene; larger images are cropped to the
    smallest one. The others, da3metric-large and da3mono-large, take each image by itself.
    """
    wanted = _formats(formats)
    _check_output(output, overwrite)
    name = _model_name(model, weights)
    _check_options(name, pose_head, focal_px)
    pixels = [_read(path) for path in images]

    # torch takes two seconds, which a wrong option need not pay.
    from da3stream.estimation.da3.single_images import estimate_alone, estimate_together, resize_image
    from da3stream.estimation.da3.single_view_network import SingleViewNetwork

    resized = [resize_image(image, resolution, resize) for image in pixels]
    network = _load(name, weights, device, pose_head)
    if isinstance(network, SingleViewNetwork):
        cameras = _cameras(images, pixels, resized, focal_px)
        found = estimate_alone(network, resized, cameras, layers=features)
    else:
        use_rays = pose_head == "ray"
        found = estimate_together(network, resized, layers=features, use_rays=use_rays)
    _write(output, wanted, found, [_file_name(index, path) for index, path in enumerate(images)])
    _report(images, pixels, found, name)


def _formats(text: str) -> tuple[str, ...]:
    """Names without repetitions."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    wrong = [name for name in names if name not in FORMATS]
    if wrong or not names:
        raise ConfigError(
            "`da3stream depth` cannot write this format",
            got=", ".join(wrong) or "none",
            expected=f"one or several of {', '.join(FORMATS)}",
        )
    return names


def _check_output(output: Path, overwrite: bool) -> None:
    if output.exists() and not output.is_dir():
        raise StoreError(f"{output} is no folder")
    if output.is_dir() and any(output.iterdir()) and not overwrite:
        raise RunExistsError(
            f"{output} is not empty", hint="Take another folder, or replace earlier results with --overwrite."
        )


def _model_name(model: str | None, weights: str | None) -> str:
    """The model that was asked for, that the weights are of, or the best one on this machine."""
    from da3stream.estimation.da3 import preset
    from da3stream.estimation.da3.catalogue import find_model
    from da3stream.estimation.da3.weights import resolve_weights

    if model is not None:
        known = find_model(model)
        return preset(model if known is None else known.name).name
    if weights is None:
        return _best_local_model()
    held = None if weights.startswith("seeded:") else resolve_weights(weights).model
    if held is None:
        raise ConfigError(f"nothing says which model {weights} is for", hint="Say it: --model NAME")
    return held.name


def _best_local_model() -> str:
    """The metric model, else the largest, of those whose weights are on this machine."""
    from da3stream.estimation.da3.catalogue import MODELS
    from da3stream.estimation.da3.weights import find_weights
    from da3stream.transformer.weights_folders import weights_folders

    order = sorted(MODELS, key=lambda model: (model.name != DEFAULT_MODEL, -model.parameters))
    for model in order:
        if find_weights(model, weights_folders()) is not None:
            return model.name
    raise WeightsError(
        "no weights of Depth Anything 3 are on this machine",
        hint=f"Download some, for example with: da3stream weights fetch {DEFAULT_MODEL} "
        "(others: da3stream weights list)",
    )


def _check_options(name: str, pose_head: str, focal_px: float | None) -> None:
    """An option that the model has no use for is an error."""
    if _has_poses(name) and focal_px is not None:
        raise ConfigError(f"--focal is of no use to {name}, which estimates the cameras itself")
    if not _has_poses(name) and pose_head == "ray":
        raise ConfigError(f"--pose-head ray is of no use to {name}, which has no poses")


def _has_poses(name: str) -> bool:
    from da3stream.estimation.da3 import NestedModelConfig, preset

    config = preset(name)
    return isinstance(config, NestedModelConfig) or config.is_any_view


def _read(path: Path) -> Image:
    from da3stream.source.image_file import read_rgb

    if not path.is_file():
        raise InputNotFoundError(f"there is no image {path}", got="a folder" if path.is_dir() else None)
    return read_rgb(path)


def _load(name: str, weights: str | None, device: str, pose_head: str) -> Network:
    from da3stream.estimation.da3.device import choose_device
    from da3stream.estimation.da3.loading import load_network

    return load_network(
        name,
        weights=weights,
        device=choose_device(device),
        with_rays=pose_head == "ray",
        with_gaussians=False,
        notify=lambda line: click.echo(line, err=True),
    )


def _cameras(
    paths: Sequence[Path], pixels: Sequence[Image], resized: Sequence[Image], focal_px: float | None
) -> list[NDArray[np.float64] | None]:
    """(3, 3) in pixels of each resized image, from --focal, else EXIF; None where neither knows it."""
    from da3stream.estimation.da3.single_images import centred_camera
    from da3stream.source.focal_length import exif_focal

    cameras = []
    for path, image, small in zip(paths, pixels, resized, strict=True):
        height, width = image.shape[:2]
        focal = focal_px
        if focal is None:
            found = exif_focal(path, width, height)
            focal = found.focal_px
            if found.distrust is not None:
                click.echo(f"warning: {found.distrust}", err=True)
        new_size = small.shape[1], small.shape[0]
        cameras.append(None if focal is None else centred_camera(focal, (width, height), new_size))
    return cameras


def _file_name(index: int, path: Path) -> str:
    """A name of its own even where two folders hold images of one name."""
    return f"{index:04d}_{path.stem}"


def _write(
    root: Path, formats: Sequence[str], geometries: Sequence[ImageGeometry], names: Sequence[str]
) -> None:
    """Write everything under temporary names, then give it its names; other formats' older results go."""
    from da3stream.store.files import SCRATCH, RunFiles
    from da3stream.writers.pending import PendingOutputs

    files = RunFiles(root)
    pending = PendingOutputs(files)
    try:
        for name in formats:
            _write_format(name, pending.folder(name), geometries, names)
        pending.commit()
        for name in set(FORMATS) - set(formats):
            files.remove(name)
    except OSError as error:
        raise StoreError(f"cannot write to {root}", got=error.strerror) from error
    finally:
        pending.abort()
        with contextlib.suppress(OSError):  # somebody else's folder of that name is not empty, and stays
            (root / SCRATCH).rmdir()


def _write_format(name: str, folder: Path, geometries: Sequence[ImageGeometry], names: Sequence[str]) -> None:
    from da3stream.writers.depth_vis import save_picture
    from da3stream.writers.npz import save_results

    if name == "depth_vis":
        for file_name, found in zip(names, geometries, strict=True):
            save_picture(folder / f"{file_name}.png", found.image, found.depth, found.sky)
        return
    arrays = [found.arrays() for found in geometries]
    save_results(folder, arrays, names, with_images=name == "npz")


def _report(
    paths: Sequence[Path],
    pixels: Sequence[Image],
    geometries: Sequence[ImageGeometry],
    model: str,
) -> None:
    for path, image, found in zip(paths, pixels, geometries, strict=True):
        click.echo(f"{path}  {_size(image)} -> {_size(found.image)}  {_described(found, model)}")
    if model == DEFAULT_MODEL and not all(found.is_metric for found in geometries):
        click.echo(
            "Depth is not in metres where the focal length is unknown: multiply it by (focal length in "
            "pixels of the second size) / 300, or pass --focal, in pixels of the input images."
        )


def _size(image: Image) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _described(found: ImageGeometry, model: str) -> str:
    import numpy as np

    ground = found.depth if found.sky is None else found.depth[~found.sky]
    unit = " m" if found.is_metric else " for f = 300 px" if model == DEFAULT_MODEL else " (no unit)"
    depth = f"median depth {np.median(ground):.4g}{unit}" if ground.size else "no depth but sky"
    camera = "focal length unknown"
    if found.intrinsics is not None:
        camera = f"fx {found.intrinsics[0, 0]:.1f} fy {found.intrinsics[1, 1]:.1f} px"
    sky = "sky not estimated" if found.sky is None else f"sky {found.sky.mean():.1%}"
    return f"{depth}  {camera}  {sky}"
