"""How the loops run: compiled by numba or, where there is little to do, as they stand.

To import numba and to load what it has stored takes longer than Python takes over a small problem,
and to compile takes seconds. Both ways run the same operations in the same order, so that their
results are the same to the last bit.
"""

from __future__ import annotations

import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, cached_property, update_wrapper
from types import FunctionType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "Kernel",
    "TooMuch",
    "helper",
    "in_threads",
    "interpreted",
    "interpreting",
    "kernel",
    "little",
    "read_only",
]


_OPTIONS: dict[str, Any] = {"error_model": "numpy", "no_cfunc_wrapper": True, "nogil": True}
_CELLS = 1 << 14
"""Clients times options up to which a problem is small: a fifth of a second of Python."""
_PATIENCE_S = 0.5
"""CPU seconds of interpreted loops in a process from which on it pays to compile them."""
_left_s: ContextVar[float | None] = ContextVar("left_s", default=None)
_helpers: dict[str, list[FunctionType]] = defaultdict(list)

_Part = TypeVar("_Part")
_Found = TypeVar("_Found")


class TooMuch(Exception):
    """The loops of this process have been interpreted for so long that it pays to compile them."""


class Kernel:
    """A loop that Python calls; it lets other threads run meanwhile, if it is compiled.

    Attributes
    ----------
    spent_s : float
        CPU seconds for which the loops of this process have been interpreted.
    wanted : bool
        Whether anybody has asked for compiled loops.
    stored : bool
        False if numba found no folder to write to.
    """

    spent_s = 0.0
    wanted = False
    stored = True

    def __init__(self, function: Callable[..., Any]) -> None:
        assert isinstance(function, FunctionType)
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Run the loop, whichever way."""
        left_s = _left_s.get()
        if left_s is None:
            return self.compiled(*arguments)
        if Kernel.spent_s > left_s:
            raise TooMuch
        began = time.thread_time()
        try:
            with np.errstate(all="ignore"):  # as in the error model of the compiled ones
                return _plain(self._function(*map(_wrapping, arguments)))
        finally:
            Kernel.spent_s += time.thread_time() - began

    @cached_property
    def compiled(self) -> Any:
        """The loop for numba, which compiles it on its first call."""
        return _compiled(self._function, _namespace(self._function.__module__))


kernel = Kernel


def helper(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that only loops call."""
    assert isinstance(function, FunctionType)
    _helpers[function.__module__].append(function)
    return function


def little(cells: int) -> bool:
    """Whether so many clients times options are few enough to interpret, nothing being compiled."""
    return cells <= _CELLS and not Kernel.wanted


@contextmanager
def interpreted(patience_s: float = _PATIENCE_S) -> Iterator[None]:
    """Interpret the loops within.

    Raises
    ------
    TooMuch
        From a loop, once those of this process have taken so many CPU seconds.
    """
    token = _left_s.set(patience_s)
    try:
        yield
    finally:
        _left_s.reset(token)


def interpreting() -> bool:
    """Whether loops are interpreted here and now."""
    return _left_s.get() is not None


@cache
def _namespace(module: str) -> dict[str, Any]:
    """What compiled functions of a module find in it: its helpers compiled as well."""
    found = dict(vars(sys.modules[module]))
    for function in _helpers[module]:
        found[function.__name__] = _compiled(function, found, no_cpython_wrapper=True)
    return found


def _compiled(function: FunctionType, namespace: dict[str, Any], **more: bool) -> Any:
    import numba

    jit: Any = numba.njit

    own = FunctionType(function.__code__, namespace, function.__name__)
    own.__module__, own.__qualname__ = function.__module__, function.__qualname__
    try:
        return jit(own, cache=True, **_OPTIONS, **more)
    except RuntimeError:  # no folder can be written to
        Kernel.stored = False
        return jit(own, **_OPTIONS, **more)


def _wrapping(value: Any) -> Any:
    """A number of Python as one of 64 bits, which wraps and divides as compiled code does."""
    if isinstance(value, float):
        return np.float64(value)
    return np.int64(value) if isinstance(value, int) else value


def _plain(result: Any) -> Any:
    """Numbers of numpy as those of Python, as compiled loops return them."""
    if isinstance(result, tuple):
        return tuple(map(_plain, result))
    return result.item() if isinstance(result, np.generic) else result


def in_threads(
    call: Callable[[_Part], _Found], parts: Sequence[_Part], threads: int
) -> list[_Found]:
    """What a call returns for each part, in their order; what one raises ends all."""
    if min(threads, len(parts)) == 1:
        return list(map(call, parts))
    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(call, parts))
    finally:
        pool.shutdown(cancel_futures=True)


def read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Contiguous read-only view: compiled code is of one type for all callers."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
