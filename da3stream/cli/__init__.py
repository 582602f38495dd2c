"""The command line: one file for each command, imported when it is used."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

import click

from da3stream import __version__
from da3stream.errors import Da3StreamError, flag_of

COMMANDS = (
    *("run", "resume", "export", "align", "view", "report"),
    *("eval", "info", "plan", "depth", "intrinsics", "demo", "weights"),
)

EXIT_ERROR, EXIT_INTERRUPTED = 1, 130


class _LazyGroup(click.Group):
    """Imports a command's file when the command, or the list of commands, is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"da3stream.cli.{cmd_name}").command
        return command


@click.group(
    cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="da3stream")
def cli() -> None:
    """Turn a long video into camera poses, intrinsics, depth, a point cloud and a COLMAP model.

    \b
    da3stream demo                     a synthetic clip with known truth: try this first
    da3stream info video.mp4           what is in an input
    da3stream run video.mp4 -o out     reconstruct it; Ctrl-C and `da3stream resume out` are fine
    da3stream view out                 look at it in the browser
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a known error, 2 wrong usage, 130 interrupted."""
    # BLAS threads fight with the decoder and the mappers over the cores and gain nothing on small matrices.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING)
    try:
        cli.main(args=None if arguments is None else list(arguments), standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Da3StreamError as error:
        _fail(error.worded(flag_of))
    except MemoryError:
        _fail("memory ran out. What is stored of a run is kept.")
    except ImportError as error:
        _fail(_explain_import(error))
    except BrokenPipeError:  # the reader of our output, `head` for example, has gone
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_ERROR)
    except (KeyboardInterrupt, click.Abort) as error:
        click.echo(str(error.__cause__ or error) or "interrupted", err=True)  # click wraps it
        _leave_at_once(EXIT_INTERRUPTED)


def _leave_at_once(status: int) -> NoReturn:
    """Exit without waiting for a chunk that is still being estimated: nobody wants it any more."""
    local = sys.modules.get("da3stream.executors.local")  # not loaded: nothing is estimated
    if local is not None and local.THREAD_NAME in {thread.name for thread in threading.enumerate()}:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _fail(message: str) -> None:
    click.echo(f"error: {message}", err=True)
    sys.exit(EXIT_ERROR)


def _explain_import(error: ImportError) -> str:
    """Name the package of a missing system library; any other failed import is a bug and raised again."""
    if any(library in str(error) for library in ("libGL", "libgthread", "libglib", "libxcb")):
        hint = "On Debian and Ubuntu: apt-get install libgl1 libglib2.0-0"
        return f"OpenCV needs a system library: {error}. {hint}"
    raise error
