"""Every error that da3stream raises on purpose.

    Da3StreamError
    ├── ConfigError              an option or a configuration file is wrong
    ├── InputError               the video, the folder or one of its images cannot be used
    │   ├── InputNotFoundError
    │   ├── NotAVideoError
    │   ├── NoVideoStreamError
    │   ├── NoFramesError
    │   ├── UnreadableImageError
    │   └── MixedImageSizesError
    ├── EstimationError          an estimator cannot work with what it was given, or broke its contract
    │   └── DeviceMemoryError    the GPU's memory does not hold so many frames at a time
    ├── ProcessLostError         a child process was killed from outside; the same work may succeed later
    ├── StoreError               the run directory cannot be used
    │   ├── RunExistsError       it is not empty, and neither --resume nor --overwrite was said
    │   ├── RunMismatchError     it belongs to another input or configuration
    │   ├── RunLockedError       another process works on it
    │   ├── RunIncompleteError   the run has not finished, or was kept without what is asked for
    │   ├── RunRestartedError    it was begun anew, or went back, while it was being read
    │   └── RunCorruptError      a file of it fails its checksum
    ├── WeightsError             the weights of a network are missing, damaged, or of another network
    ├── FormatError              a trajectory, calibration or model file cannot be read
    └── MissingDependencyError   an optional package or a system library is not installed

The message says what happened, what was found, what was expected and what to do next. The command line prints
it as one line and exits with status 1; anything that is not a `Da3StreamError` is a bug.

A message names options with `option`: they are keys to a caller and flags on the command line. A hint that
does not know the run it is about says `RESUME`: `naming_run`, further up, fills in the folder.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_OPTION = re.compile("\N{MATHEMATICAL LEFT ANGLE BRACKET}(\\w+)\N{MATHEMATICAL RIGHT ANGLE BRACKET}")
"""Nothing that a user types looks like it."""
_RUN = "\N{MATHEMATICAL LEFT ANGLE BRACKET}RUN DIRECTORY\N{MATHEMATICAL RIGHT ANGLE BRACKET}"
RESUME = f"da3stream resume {_RUN}"
"""The command that continues the run that an error is about, for its hint."""
GO_ON = f"Probably memory ran out. What a run has stored is kept: go on with {RESUME}"
"""What the user can do about a child process that was killed."""


def option(name: str) -> str:
    """An option, by its key in a configuration, for the message of an error."""
    return f"\N{MATHEMATICAL LEFT ANGLE BRACKET}{name}\N{MATHEMATICAL RIGHT ANGLE BRACKET}"


def flag_of(name: str) -> str:
    """What an option is called on the command line, by its key."""
    return f"--{name.replace('_', '-')}"


def command_line(*words: object) -> str:
    """A command of ours as it can be pasted into a shell."""
    return shlex.join(["da3stream", *map(str, words)])


class Da3StreamError(Exception):
    """Root of all errors raised on purpose.

    Args:
        what: What happened, without a full stop.
        got: What was found.
        expected: What was expected instead.
        hint: What the user can do about it, a sentence.
    """

    def __init__(
        self, what: str, *, got: object = None, expected: object = None, hint: str | None = None
    ) -> None:
        self.what, self.got, self.expected, self.hint = what, got, expected, hint
        parts = [what]
        if got is not None:
            parts.append(f"got {got}")
        if expected is not None:
            parts.append(f"expected {expected}")
        message = "; ".join(parts)
        end = "" if message.endswith("?") else "."
        self._message, self._run = f"{message}{end} {hint}" if hint else message, "RUN"
        super().__init__(str(self))

    def __str__(self) -> str:
        return self.worded(str)

    def worded(self, name_of: Callable[[str], str]) -> str:
        """The message, with what `name_of` makes of the key of each option that it names."""
        named = _OPTION.sub(lambda found: name_of(found[1]), self._message)
        return named.replace(_RUN, self._run)

    def name_run(self, root: Path) -> None:
        """Say which run directory the error is about; hints name it from now on."""
        self._run = shlex.quote(str(root))


@contextmanager
def naming_run(root: Path) -> Iterator[None]:
    """Whatever goes wrong within is about this run directory."""
    try:
        yield
    except Da3StreamError as error:
        error.name_run(root)
        raise


class ConfigError(Da3StreamError):
    """An option or a configuration file is wrong."""


class InputError(Da3StreamError):
    """The input cannot be used."""


class InputNotFoundError(InputError):
    """There is no such file or folder."""


class NotAVideoError(InputError):
    """The file is no container that the decoder knows."""


class NoVideoStreamError(InputError):
    """The container holds no video stream."""


class NoFramesError(InputError):
    """Nothing could be decoded, or the selection leaves nothing."""


class UnreadableImageError(InputError):
    """An image file cannot be decoded; the message names it."""


class MixedImageSizesError(InputError):
    """An image has another size than the first one; the message names both."""


class EstimationError(Da3StreamError):
    """An estimator cannot work with what it was given, or returned what its contract forbids."""


class DeviceMemoryError(EstimationError):
    """The device's memory does not hold so many frames at a time, however the work is cut."""


class ProcessLostError(Da3StreamError):
    """A child process was killed from outside, for want of memory perhaps, or ended without its answer.

    No `InputError` and no `EstimationError`: nothing is wrong with what it worked on, so nothing may be left
    out because of it.
    """


class StoreError(Da3StreamError):
    """The run directory cannot be used."""


class RunExistsError(StoreError):
    """The run directory is not empty, and neither resume nor overwrite was asked for."""


class RunMismatchError(StoreError):
    """The run directory belongs to another input or configuration; the message says what differs."""


class RunLockedError(StoreError):
    """Another process works on the run directory."""


class RunIncompleteError(StoreError):
    """The run has not finished, or did not keep what is asked for."""


class RunRestartedError(StoreError):
    """The run was begun anew, or went back to an earlier state, while it was being read."""


class RunCorruptError(StoreError):
    """A file of the run directory fails its checksum or cannot be parsed; the message names it."""


class WeightsError(Da3StreamError):
    """The weights of a network are missing, cannot be fetched, are damaged, or belong to another network."""


class FormatError(Da3StreamError):
    """A trajectory, calibration or model file cannot be read; the message names file and line."""


class MissingDependencyError(Da3StreamError):
    """An optional package or a system library is not installed; the message says how to install it."""
