"""Standard output is the caller's alone: what compiled libraries write there goes elsewhere."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    redirect_stdout,
    suppress,
)
from functools import cache
from io import StringIO, TextIOWrapper
from tempfile import TemporaryFile
from threading import Lock

__all__ = [
    "Watch",
    "lasting_stdout_aside",
    "own_stdout",
    "stdout_aside",
    "stdout_lost",
    "stdout_watched",
]

_STDOUT, _STDERR = 1, 2

_lock = Lock()
_aside = ExitStack()
_inside = 0
"""How many have sent standard output aside, and what leads it back."""


@contextmanager
def stdout_aside() -> Iterator[None]:
    """Send what compiled libraries write to standard output to standard error.

    What Python prints goes where it always goes, from whichever thread, and so does what other
    programs print. Only where the C library's ``stdout`` cannot be another stream (all but glibc
    and macOS) do these lead to standard error as well. Several threads may do so at once: the
    output leads back when the last one is through.
    """
    global _inside
    with _lock:
        if _inside == 0:
            streams = _c_streams()
            own = _sent_to(_STDERR) if streams is None else _c_stdout_as(streams[1].value)
            _aside.enter_context(own)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _aside.close()


def lasting_stdout_aside() -> AbstractContextManager[None]:
    """:func:`stdout_aside` for what may go on after its caller, who has standard output back."""
    return nullcontext() if _c_streams() is None else stdout_aside()


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


@contextmanager
def stdout_lost() -> Iterator[None]:
    """Let what compiled libraries write to standard output be lost: greetings, for example."""
    if _c_streams() is None:
        with open(os.devnull, "w") as nowhere, _sent_to(nowhere.fileno()):
            yield
        return
    library = ctypes.CDLL(None)
    library.fopen.restype = ctypes.c_void_p
    nowhere = library.fopen(os.devnull.encode(), b"w")
    try:
        with _c_stdout_as(nowhere):
            yield
    finally:
        library.fclose(ctypes.c_void_p(nowhere))


@contextmanager
def _c_stdout_as(stream: int | None) -> Iterator[None]:
    """Let the C library's ``stdout`` be another of its streams; descriptors stay as they are."""
    streams = _c_streams()
    assert streams is not None
    stdout, _ = streams
    _flush_c()
    kept, stdout.value = stdout.value, stream
    try:
        yield
    finally:
        _flush_c()
        stdout.value = kept


@cache
def _c_streams() -> tuple[ctypes.c_void_p, ctypes.c_void_p] | None:
    """The variables ``stdout`` and ``stderr`` of the C library, where programs may set them."""
    if sys.platform == "darwin":
        names = ("__stdoutp", "__stderrp")
    elif sys.platform == "linux" and hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
        names = ("stdout", "stderr")
    else:
        return None
    stdout, stderr = (ctypes.c_void_p.in_dll(ctypes.CDLL(None), name) for name in names)
    return stdout, stderr


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
    _flush_c()


def _flush_c() -> None:
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).fflush(None)
