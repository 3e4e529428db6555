"""Standard output is the caller's alone: what compiled libraries write there goes elsewhere."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from io import StringIO
from tempfile import TemporaryFile

__all__ = ["Watch", "stdout_aside", "stdout_watched"]

_STDOUT, _STDERR = 1, 2


@contextmanager
def stdout_aside() -> Iterator[None]:
    """Send what is written to the standard output of this process to its standard error.

    This holds for all threads and for processes that are started meanwhile; Python's own
    ``sys.stdout`` writes there too. Keep it short.
    """
    with _sent_to(_STDERR):
        yield


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
def _sent_to(descriptor: int) -> Iterator[None]:
    _flush()
    try:
        kept = os.dup(_STDOUT)
    except OSError:  # There is no standard output.
        yield
        return
    try:
        os.dup2(descriptor, _STDOUT)
        yield
    finally:
        _flush()
        os.dup2(kept, _STDOUT)
        os.close(kept)


def _flush() -> None:
    """Write out what Python and the C library hold back."""
    with suppress(AttributeError, OSError, ValueError):
        sys.stdout.flush()
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).fflush(None)
