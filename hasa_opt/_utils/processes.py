"""Worker processes: what they owe to the process that started them."""

from __future__ import annotations

import os
import signal
import time
from functools import cache
from threading import Thread

__all__ = ["follow"]

_PERIOD_S = 0.2


@cache
def follow(parent: int) -> None:
    """Let a worker process leave Ctrl-C to its parent, and end soon after its parent was killed.

    Does nothing in the parent itself.
    """
    if os.getpid() == parent:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PERIOD_S)
        os._exit(1)

    if os.getppid() == parent:
        Thread(target=watch, daemon=True).start()
