"""When the time is up: every step that may take long asks, and a call that cannot ask is left."""

from __future__ import annotations

import atexit
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import inf
from threading import Event, Thread
from typing import Any

from hasa_opt._utils.native import lasting_stdout_aside

__all__ = ["UNLIMITED", "Background", "Deadline", "OutOfTime"]

_GRACE_S = 0.05  # what is almost done may end
_TICK_S = 0.1  # between two looks at Ctrl-C, which people do not notice
_LAST_WORD_S = 1.0  # in which a call that was told to stop hands over what it has
_FAREWELL_S = 5.0  # for calls that were left, when the interpreter ends
_running: set[Event] = set()


class OutOfTime(Exception):
    """The time limit passed before a step had a result."""


@dataclass(frozen=True)
class Deadline:
    """A point in time.

    Attributes
    ----------
    at : float
        Reading of ``time.perf_counter``; infinity for no limit.
    stopped : callable, optional
        Whether somebody has asked to stop before; called whenever the clock is looked at.
    """

    at: float = inf
    stopped: Callable[[], bool] | None = None

    @classmethod
    def after(cls, seconds: float | None, stopped: Callable[[], bool] | None = None) -> Deadline:
        """So many seconds from now; None for no limit."""
        return cls(inf if seconds is None else time.perf_counter() + seconds, stopped)

    @property
    def limited(self) -> bool:
        """False if there is no limit of time."""
        return self.at < inf

    def part(self, share: float) -> Deadline:
        """After this share of the time that is left."""
        return self if not self.limited else Deadline.after(share * self.remaining_s, self.stopped)

    @property
    def remaining_s(self) -> float:
        """Seconds left, at least 0."""
        return max(0.0, self.at - time.perf_counter())

    @property
    def passed(self) -> bool:
        """True 0.05 seconds after the deadline: what is almost done may end; or if stopped."""
        return time.perf_counter() > self.at + _GRACE_S or self.called_off

    @property
    def called_off(self) -> bool:
        """Whether somebody has asked to stop."""
        return self.stopped is not None and self.stopped()

    def later(self, seconds: float) -> Deadline:
        """So many seconds after this one."""
        return Deadline(self.at + seconds, self.stopped)

    def check(self) -> None:
        """Raise :class:`OutOfTime` if the deadline has passed; cheap, for use between steps."""
        if self.passed:
            raise OutOfTime

    def wait_for(self, call: Callable[[], Any]) -> Any:
        """Result of a call that does not look at the clock; it is left behind at the deadline.

        Raises
        ------
        OutOfTime
            At the deadline. The call goes on in the background until it ends by itself.
        """
        if self == UNLIMITED:
            return call()
        task = Background(call)
        if not task.ended_by(self):
            raise OutOfTime
        return task.result()

    def heed(self, call: Callable[[], Any], stop: Callable[[], object]) -> tuple[Any, bool]:
        """Result of a call that can be told to stop, and whether it ended by itself.

        It is told so at the deadline and on Ctrl-C.

        Raises
        ------
        OutOfTime
            If it does not end within a second.
        """
        task = Background(call)
        whole = False
        try:
            whole = task.ended_by(self)
        finally:
            if not whole:
                stop()
        if not task.ended_by(Deadline.after(_LAST_WORD_S)):
            raise OutOfTime
        return task.result(), whole


class Background:
    """A call in a thread of its own, so that Ctrl-C and the clock reach the caller meanwhile."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._call = call
        self._value: Any = None
        self._error: BaseException | None = None
        # An event: Thread.join calls a thread ended that Ctrl-C interrupted it in waiting for.
        self._ended = Event()
        _running.add(self._ended)
        _wait_at_exit()
        Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            with lasting_stdout_aside():
                self._value = self._call()
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error
        finally:
            self._ended.set()
            _running.discard(self._ended)

    def ended_by(self, deadline: Deadline) -> bool:
        """Wait until it ends or the deadline has passed; whether it ended."""
        while not self._ended.is_set() and not deadline.passed:
            self._ended.wait(min(_TICK_S, deadline.remaining_s + _GRACE_S))
        return self._ended.is_set()

    def result(self) -> Any:
        """What the call returned, or the error that it raised."""
        if self._error is not None:
            raise self._error
        return self._value


@cache
def _wait_at_exit() -> None:
    """Give what is left behind a moment to end: compiled code aborts if it outlives Python."""
    atexit.register(_bid_farewell)


def _bid_farewell() -> None:
    end = time.perf_counter() + _FAREWELL_S
    for ended in list(_running):
        ended.wait(max(0.0, end - time.perf_counter()))


UNLIMITED = Deadline()
