"""How the process of the command line is tuned, fails and ends.

The process belongs to whoever runs it: only front ends change theirs, and only here.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

import typer

from imagesearch.errors import ConfigError, ImageSearchError
from imagesearch.frontends.cli.output import note
from imagesearch.frontends.errors import WrongUsageError

FAILED, WRONG_USAGE, INTERRUPTED = 1, 2, 130

# Generation-0 threshold of the garbage collector. Nearly all that a start makes stays (modules, classes), and with
# Python's own 700 a search among images takes 7 % longer.
_GC_THRESHOLD = 10_000

# A full disk, a full quota, a file of the largest allowed size.
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", None), errno.EFBIG)


def run(application: Callable[[], object]) -> None:
    """Tune this process, run the command line in it, and end it."""
    tune_process()
    try:
        try:
            application()
        except SystemExit as leaving:
            _leave(leaving)
    except OSError as error:
        _explain_unwritable_output(error)
        sys.exit(FAILED)


def tune_process() -> None:
    """Set up streams, memory and threads of a process that does nothing but run one command."""
    from imagesearch.models.tuning import keep_freed_memory

    _open_closed_streams()
    # NumPy, which is not loaded yet, multiplies in one thread. Matrices here are small, and OpenBLAS's threads,
    # which wait by spinning, take cores from the network's: with them a search takes 10 % longer, and a server
    # answers a third fewer requests.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    gc.set_threshold(_GC_THRESHOLD)
    keep_freed_memory()


def _open_closed_streams() -> None:
    """Let streams that the shell closed (``>&-``) lead nowhere.

    Python has None for them, which commands would have to mind at every turn; and the next file that is opened,
    perhaps the database's, would get the number of the closed one, and with it what libraries in C print.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for the whole process


@contextlib.contextmanager
def errors_as_exit_codes(kept: Callable[[], str] = str) -> Iterator[None]:
    """Turn every error that the library raises on purpose into a line on stderr and an exit code.

    Args:
        kept: asked, when somebody interrupts the command, for what to add to the line about it.
    """
    try:
        yield
    except ImageSearchError as error:
        for line in str(error).splitlines():
            note(f"imagesearch: error: {line}")
        wrong_usage = isinstance(error, (ConfigError, WrongUsageError))
        raise typer.Exit(WRONG_USAGE if wrong_usage else FAILED) from error
    except KeyboardInterrupt as error:
        note(f"imagesearch: interrupted{kept()}")
        raise typer.Exit(INTERRUPTED) from error


def _leave(leaving: SystemExit) -> NoReturn:
    """End the process with that exit code, without freeing every object of every library one by one.

    That is a fifth of the time of a search. What Python promises to do at its end is done: streams are flushed,
    and exit functions run (by a private function; there is no public one). Where that is not all (threads to wait
    for, a message as exit code, a profiler or a debugger that goes on), Python ends as usual.
    """
    _flush()
    waiting = [thread for thread in threading.enumerate() if not thread.daemon]
    if waiting != [threading.main_thread()] or _is_watched() or not isinstance(leaving.code, int | None):
        raise leaving
    atexit._run_exitfuncs()
    _flush()
    os._exit(leaving.code or 0)


def _is_watched() -> bool:
    """Whether a profiler, a debugger or the like has something to do after the program."""
    if sys.getprofile() or sys.gettrace() or sys.flags.inspect:
        return True
    monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on, there they say so
    return monitoring is not None and any(map(monitoring.get_tool, range(6)))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _explain_unwritable_output(error: OSError) -> None:
    """Say that the output cannot be written, unless whoever reads it has had enough; other errors are raised."""
    if error.errno in _FULL:
        note(f"imagesearch: error: cannot write: {error.strerror}")
    elif error.errno != errno.EPIPE:
        raise error
    with open(os.devnull, "w") as nowhere:  # or Python would try again to write it, when it ends
        os.dup2(nowhere.fileno(), 1)
