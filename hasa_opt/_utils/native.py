"""Standard output is the caller's alone: what compiled libraries write there goes elsewhere."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from io import StringIO, TextIOWrapper
from tempfile import TemporaryFile
from threading import Lock

__all__ = ["Watch", "own_stdout", "stdout_aside", "stdout_watched"]

_STDOUT, _STDERR = 1, 2

_lock = Lock()
_aside = ExitStack()
_inside = 0
"""How many have sent standard output aside, and what leads it back."""


@contextmanager
def stdout_aside() -> Iterator[None]:
    """Send what is written to the standard output of this process to its standard error.

    This holds for all threads and for processes that are started meanwhile, and for Python's own
    ``sys.stdout`` where that is the standard output of the process. Several threads may do so at
    once: the output leads back when the last one is through.
    """
    global _inside
    with _lock:
        if _inside == 0:
            _aside.enter_context(_sent_to(_STDERR))
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _aside.close()


@contextmanager
def own_stdout() -> Iterator[None]:
    """Keep standard output for what this program prints; all else goes to standard error.

    Characters that the output cannot encode become question marks. Where ``sys.stdout`` is not
    the standard output of the process, as in a notebook, only that is seen to.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")
    before = sys.stdout
    if not isinstance(before, TextIOWrapper) or not _leads_out(before):
        yield
        return
    with _sent_to(_STDERR) as kept:
        ours = os.fdopen(os.dup(kept), "w", encoding=before.encoding, errors=before.errors)
        sys.stdout = ours
        try:
            yield
        finally:
            sys.stdout = before
            with suppress(BrokenPipeError):  # whoever reads has seen enough
                ours.close()


class Watch:
    """What was written to standard output meanwhile.

    Attributes
    ----------
    text : str
        Complete once the watch is over.
    """

    text: str = ""


@contextmanager
def stdout_watched() -> Iterator[Watch]:
    """Keep what is written to standard output, by Python or by compiled libraries, from it."""
    watch, printed = Watch(), StringIO()
    with TemporaryFile() as file:
        try:
            with redirect_stdout(printed), _sent_to(file.fileno()):
                yield watch
        finally:
            file.seek(0)
            watch.text = printed.getvalue() + file.read().decode(errors="replace")


@contextmanager
def _sent_to(descriptor: int) -> Iterator[int]:
    """Let standard output lead elsewhere; gives the descriptor of where it led to."""
    _flush()
    try:
        kept = os.dup(_STDOUT)
    except OSError:  # There is no standard output.
        yield _STDOUT
        return
    try:
        os.dup2(descriptor, _STDOUT)
        yield kept
    finally:
        _flush()
        os.dup2(kept, _STDOUT)
        os.close(kept)


def _leads_out(stream: TextIOWrapper) -> bool:
    """Whether a stream writes to the standard output of the process."""
    try:
        return stream.fileno() == _STDOUT
    except OSError:
        return False


def _flush() -> None:
    """Write out what Python and the C library hold back."""
    with suppress(AttributeError, OSError, ValueError):
        sys.stdout.flush()
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).fflush(None)
