"""What is said of the optimisation of a map, in plain JSON values, under `optimisation` in run.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from da3stream.geometry.sim3 import Sim3
from da3stream.optimisation import Distortion, KnownPlacement, OptimisationReport, PriorReport

UNSURE_SCALE, NO_SCALE = 0.05, 0.3
"""Standard deviations of the log of the unit from which on it is warned of, and counts as unknown."""


def graph_summary(
    report: OptimisationReport,
    distortion: Distortion,
    *,
    submaps: int,
    world_from_chain: Sim3,
    loops_unused: Sequence[int],
    priors: PriorReport | None,
) -> dict[str, Any]:
    """How an optimisation of submaps and edges went.

    Args:
        report: of the edges.
        distortion: how much the submaps bend.
        submaps: how many there are.
        world_from_chain: from the frame and unit of the first submap to those that the run came out in.
        loops_unused: chunks of accepted loops that were weighted down to nothing.
        priors: what became of prior poses, if there were any.
    """
    used = report.mahalanobis[report.weights > 0]
    return {
        "submaps": submaps,
        **({} if priors is None else {"pose_priors": _prior_summary(priors)}),
        "edges": len(report.weights),
        "edges_refused": len(report.weights) - len(used),
        "iterations": report.iterations,
        "converged": report.converged,
        "reason": report.reason,
        "cost_before": report.cost_before,
        "cost_after": report.cost_after,
        "world_from_chain": {
            "scale": float(world_from_chain.scale),
            "rotation": world_from_chain.rotation.tolist(),
            "translation": world_from_chain.translation.tolist(),
        },
        "loops_unused": list(loops_unused),
        "variance_factor": report.variance_factor if np.isfinite(report.variance_factor) else None,
        "residual_in_standard_deviations": {
            "median": float(np.median(used)) if len(used) else None,
            "largest": float(used.max()) if len(used) else None,
        },
        "camera_noise": {
            name: {"jitter": float(jitter), "drift_per_frame": float(drift)}
            for name, jitter, drift in zip(
                ("rotation_rad", "translation_over_depth", "log_scale"),
                distortion.jitter,
                distortion.drift,
                strict=True,
            )
        },
    }


def world_from_chain_of(summary: Mapping[str, Any]) -> Sim3 | None:
    """What a summary says of the chain of chunks; None if it says nothing: no edges, or an older run."""
    if summary.get("known_poses"):
        return Sim3.identity()
    fields = summary.get("world_from_chain")
    return None if fields is None else Sim3(**fields)


def known_summary(placement: KnownPlacement) -> dict[str, Any]:
    """What the scales of submaps at known poses rest on, in plain JSON values.

    `scale_correction` is by how much depth and neighbours have moved the log of what a submap's own cameras
    say of its scale.
    """
    pairs = zip(placement.own, placement.log_scale, strict=True)
    moved = [abs(float(log_scale) - own.value) for own, log_scale in pairs if own is not None]
    sigmas = [own.sigma for own in placement.own if own is not None]
    return {
        "known_poses": True,
        "submaps": len(placement.cameras),
        "submaps_whose_camera_hardly_moves": len(placement.cameras) - len(moved),
        "log_scale_of_own_cameras": {"median_standard_deviation": float(np.median(sigmas))}
        if sigmas
        else None,
        "scale_correction": {"median": float(np.median(moved)), "largest": max(moved)} if moved else None,
    }


def tells_unit(priors: PriorReport) -> bool:
    """Whether the unit of prior poses is that of the map: their noise does not hide the size of the path.

    Positions whose rotations were of no use settle the map's rotation, too, and so fit better than they are.
    """
    most = UNSURE_SCALE if priors.rotation_sigma_rad is None else NO_SCALE
    return priors.scale_uncertainty < most


def prior_warnings(priors: PriorReport) -> list[str]:
    """A line if prior poses leave the unit open."""
    share = priors.scale_uncertainty
    if share < UNSURE_SCALE:
        return []
    line = f"the prior poses are so noisy beside the size of the path that its unit may be off by {share:.0%}"
    return [line if tells_unit(priors) else f"{line}: do they belong to this video?"]


def _prior_summary(priors: PriorReport) -> dict[str, Any]:
    """What became of prior poses, in plain JSON values."""
    return {
        "frames": priors.frames,
        "sigma": priors.sigma,
        "rotation_sigma_rad": priors.rotation_sigma_rad,
        "outliers": len(priors.outliers),
        "first_outliers": list(priors.outliers[:10]),
        "scale_uncertainty": priors.scale_uncertainty,
    }
