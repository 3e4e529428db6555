"""Ctrl-C in a series of solves, each of which takes it as a wish for its best answer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ended_by_interrupt"]


@contextmanager
def ended_by_interrupt() -> Iterator[Callable[[], None]]:
    """Within the block, a Ctrl-C that was caught by somebody is remembered.

    Python's own handler is put back afterwards. Another handler, and one of another thread than
    the main one, is left alone: the block then remembers nothing.

    Yields
    ------
    callable
        Raises KeyboardInterrupt if Ctrl-C was pressed; to be called between two solves.
    """
    pressed, usual = False, signal.default_int_handler
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not usual:
        yield lambda: None
        return

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        usual(number, frame)

    def check() -> None:
        if pressed:
            raise KeyboardInterrupt

    signal.signal(signal.SIGINT, remember)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, usual)
