"""Says early that a file of prior poses is not one of these frames, instead of at the end of a long run."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from da3stream.errors import InputError
from da3stream.known_poses import FrameKeys, KnownPoses
from da3stream.optimisation import FEWEST_PRIORS
from da3stream.scene import Frame

LONGEST_WAIT_S = 3600.0
"""Of a source of unknown length: poses that begin later than this are taken for those of another clock."""
ROOM_FOR_RATE = 2.0
"""So many times as long as at the rate of its first frames may the rest of a source take."""


def check_listed(poses: KnownPoses, images: Sequence[FrameKeys]) -> None:
    """Check that enough of the images that may be taken have a prior.

    Raises:
        InputError: they have not.
    """
    posed = (image for image in images if poses.prior_of(image) is not None)
    found = len(list(islice(posed, FEWEST_PRIORS)))
    if found < FEWEST_PRIORS:
        raise _no_priors(
            f"{poses.origin} has prior poses of {found} of {len(images)} images", poses, images[0]
        )


def check_count(poses: KnownPoses) -> None:
    """Check that there are enough poses for a source whose frames are not listed beforehand.

    Raises:
        InputError: there are not. Between poses that have times more are interpolated: two may be enough.
    """
    if not poses.have_times and len(poses) < FEWEST_PRIORS:
        raise InputError(
            f"{poses.origin} has too few poses for priors",
            got=f"{len(poses)}",
            expected=f"at least {FEWEST_PRIORS}",
        )


class PriorWatch:
    """Looks at the frames as they arrive until one has a prior.

    As long as there is none it judges, chunk by chunk, whether one may still come: whether the file has lines
    or numbered names for later frames, or poses at a time that the source will reach. Priors that begin late,
    such as those of a GPS that searches for satellites, are waited for.
    """

    def __init__(self, poses: KnownPoses | None, frames_total: int | None) -> None:
        """
        Args:
            poses: looked up as priors; None: there is nothing to watch.
            frames_total: estimated number of frames, None if it is unknown.
        """
        self._poses, self._total = poses, frames_total
        self._first: tuple[int, float] | None = None
        """Index and time of the first frame."""

    def check(self, frames: Sequence[Frame]) -> None:
        """Look at the next frames, those that a chunk owns.

        Raises:
            InputError: neither they nor earlier ones have a prior, and later ones will not have any.
        """
        poses = self._poses
        if poses is None or any(frame.pose_prior is not None for frame in frames):
            self._poses = None
            return
        first, last = frames[0], frames[-1]
        self._first = self._first or (first.index, first.timestamp_s)
        if not poses.may_have_later_priors(last, self._latest_s(last, *self._first)):
            raise _no_priors(
                f"{poses.origin} has no pose for any of the frames so far, nor for those to come",
                poses,
                last,
                then=" If the run directory is there by now, run again with --overwrite.",
            )

    def _latest_s(self, last: Frame, first_index: int, first_s: float) -> float:
        """A time that the source does not exceed."""
        if self._total is None:
            return last.timestamp_s + LONGEST_WAIT_S
        interval_s = (last.timestamp_s - first_s) / max(last.index - first_index, 1)
        return last.timestamp_s + ROOM_FOR_RATE * interval_s * max(self._total - last.index - 1, 0)


def _no_priors(what: str, poses: KnownPoses, frame: FrameKeys, then: str = "") -> InputError:
    by_time = "--pose-offset is added to the times of frames."
    hint = by_time if poses.have_times else "Check the names or lines in the file of --poses."
    return InputError(
        what,
        got=f"{poses.in_words()}; {poses.frame_in_words(frame)}",
        expected=f"priors of at least {FEWEST_PRIORS} frames",
        hint=hint + then,
    )
