"""Functions that run in a Python process of their own, which waits for the next call.

OR-tools and highspy each bring a ``libhighs.so.1`` of another version: whichever is imported
second into a process fails (google/or-tools#5246), so OR-tools never enters ours. To start
the process and import OR-tools takes about a second, so it is kept; it ends with ours.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from io import BufferedReader
from typing import Any, BinaryIO, cast

from hasa_opt._utils.deadline import UNLIMITED, Background, Deadline, OutOfTime

__all__ = ["call", "cpu_seconds", "serve", "stop"]


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    owner: int
    cpu_seconds: float = 0.0


_LOCK = threading.Lock()
_workers: list[_Worker] = []


def call(
    target: str,
    *arguments: Any,
    deadline: Deadline = UNLIMITED,
    on_news: Callable[[Any], None] | None = None,
) -> tuple[Any, bool]:
    """Call a function in the other process and wait for it.

    Ctrl-C reaches the function as an interrupt, which it may answer with what it has.

    Parameters
    ----------
    target : str
        ``"module:function"``.
    *arguments : objects
        What the function takes; anything that can be pickled.
    deadline : Deadline, optional
        When the process is ended, with the call in it.
    on_news : callable, optional
        Called with what the function hands to its argument ``news`` on its way.

    Returns
    -------
    value
        What the function returned; what it raised is raised here.
    interrupted : bool
        Whether Ctrl-C was pressed meanwhile.

    Raises
    ------
    KeyboardInterrupt
        If it was pressed and the process ended without an answer.
    ChildProcessError
        If the process ended by itself.
    OutOfTime
        At the deadline.
    """
    deadline.check()
    with _LOCK:
        worker = _running()
        try:
            exchange = _Exchange(worker.process, on_news)
            exchange.send(target, arguments)
            answer, interrupted = exchange.wait(deadline)
            returned, value, worker.cpu_seconds = answer
        except (EOFError, OSError):
            stop()
            ended = worker.process.returncode
            value = ChildProcessError(f"the process of {target} ended with {ended}")
            returned = interrupted = False
        except BaseException:
            stop()
            raise
        if interrupted:
            stop()  # its handler of interrupts is used up
    if not returned:
        raise value
    return value, interrupted


class _Exchange:
    """One call and its answer; threads of its own write and read, so that the caller can wait."""

    def __init__(
        self, process: subprocess.Popen[bytes], on_news: Callable[[Any], None] | None
    ) -> None:
        self._process = process
        self._on_news = on_news

    def send(self, target: str, arguments: tuple[Any, ...]) -> None:
        """Send the call; much to send would wait for the process to start."""
        into = cast("BinaryIO", self._process.stdin)
        packed = pickle.dumps((target, arguments, self._on_news is not None))
        Background(lambda: (into.write(packed), into.flush()))

    def wait(self, deadline: Deadline) -> tuple[tuple[bool, Any, float], bool]:
        """The answer, and whether Ctrl-C was pressed meanwhile."""
        reading = Background(self._read)
        interrupted = False
        try:
            if not reading.ended_by(deadline):
                raise OutOfTime
        except KeyboardInterrupt:
            interrupted = True
            self._process.send_signal(signal.SIGINT)
            reading.ended_by(UNLIMITED)
            try:
                return reading.result(), interrupted
            except EOFError:
                raise KeyboardInterrupt from None
        return reading.result(), interrupted

    def _read(self) -> Any:
        out = cast("BufferedReader", self._process.stdout)
        while True:
            final, message = pickle.load(out)
            if final:
                return message
            if self._on_news is not None:
                self._on_news(message)


def cpu_seconds() -> float:
    """User and system seconds of the process that waits; 0 once it has ended."""
    return sum(worker.cpu_seconds for worker in _workers)


def stop() -> None:
    """End the process; the next call starts another."""
    while _workers:
        worker = _workers.pop()
        if worker.owner != os.getpid():
            continue
        worker.process.kill()
        with suppress(OSError):
            worker.process.communicate()


def _running() -> _Worker:
    """The process that waits; a new one where it has ended or, after a fork, is another's."""
    if _workers and _workers[0].owner == os.getpid() and _workers[0].process.poll() is None:
        return _workers[0]
    stop()
    _stop_at_exit()
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", f"from {__name__} import serve; serve()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        start_new_session=True,  # Ctrl-C at the terminal is for us to pass on
    )
    _workers.append(_Worker(process, os.getpid()))
    return _workers[0]


@cache
def _stop_at_exit() -> None:
    atexit.register(stop)


def serve() -> None:
    """Answer calls from stdin on stdout until stdin closes."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a solver's own output is kept apart from the answers
    while True:
        try:
            target, arguments, listening = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        module, _, name = target.partition(":")
        news = {"news": partial(_tell, answers, False)} if listening else {}
        try:
            returned, value = True, getattr(import_module(module), name)(*arguments, **news)
        except Exception as error:
            returned, value = False, error
        _tell(answers, True, (returned, value, time.process_time()))


def _tell(answers: BinaryIO, final: bool, message: Any) -> None:
    pickle.dump((final, message), answers)
    answers.flush()
