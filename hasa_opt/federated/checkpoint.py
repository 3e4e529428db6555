"""Checkpoints: the history so far and the weights, on the disk after every round."""

from __future__ import annotations

import re
import shutil
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from types import FrameType
from typing import Any, Self

from filelock import FileLock, Timeout

from hasa_opt._utils.checks import FloatArray
from hasa_opt._utils.files import entries, made_directory
from hasa_opt.errors import InputError
from hasa_opt.federated.history import History
from hasa_opt.federated.history_files import Chunk, chunks_in
from hasa_opt.federated.identity import check_same_run


@contextmanager
def deferred_interrupt(notice: str) -> Iterator[Callable[[], bool]]:
    """Within the block, the first Ctrl-C is only noted; the second raises KeyboardInterrupt.

    Python's own handler is put back afterwards. Another handler, and one of another thread than
    the main one, is left alone: the block then notes nothing.

    Parameters
    ----------
    notice : str
        What is written to standard error on the first Ctrl-C.

    Yields
    ------
    callable
        Returns whether Ctrl-C was pressed.
    """
    pressed = False
    usual = signal.default_int_handler
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not usual:
        yield lambda: False
        return

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, usual)
        with suppress(RuntimeError):  # The signal came while standard error was written to.
            print(notice, file=sys.stderr, flush=True)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, usual)


KEPT = 2
"""Checkpoints that are kept: the newest, and the one before it in case the newest is damaged."""

_NAME = re.compile(r"round-(\d{6,})")
_ASIDE = re.compile(r"\.round-.*")
_LOCK = ".lock"
_PATIENCE_S = 5.0
"""How long to wait for a process that still holds the directory, as one that was just killed."""


class Checkpoints:
    """The checkpoints of one run in a directory of their own.

    Each is a directory ``round-000007`` that holds the history of the first seven rounds as
    :meth:`History.save` writes it: JSON and safetensors, each file with its digest, nothing
    pickled. Of the rounds only the newest is written; those before are links to files that were.
    All random numbers of a run are functions of (seed, round, client), so that the seed and the
    number of finished rounds are the whole random state.

    Use :meth:`open`.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._chunks: list[Chunk] = []

    @classmethod
    @contextmanager
    def open(cls, directory: str | PathLike[str], *, resume: bool) -> Iterator[Self]:
        """Take hold of a directory of checkpoints while a run writes to it.

        Parameters
        ----------
        directory : path
            Made if it does not exist.
        resume : bool
            Whether it may hold checkpoints already.

        Raises
        ------
        InputError
            If the directory holds something else, or checkpoints that nobody asked to resume, or
            another process writes there.
        StorageError
            If the directory cannot be made.
        """
        path = made_directory(directory).absolute()
        for entry in entries(path):
            if not (entry.name == _LOCK or _NAME.fullmatch(entry.name) or _is_aside(entry)):
                raise InputError(
                    f"{path} holds {entry.name}, which is not a checkpoint: choose a directory for "
                    "checkpoints alone"
                )
        checkpoints = cls(path)
        rounds = checkpoints._rounds()
        if rounds and not resume:
            raise InputError(
                f"{path} holds a checkpoint of {rounds[0]} round(s): go on from it with "
                "resume=True, or choose another directory"
            )
        lock = FileLock(path / _LOCK, timeout=_PATIENCE_S)
        try:
            lock.acquire()
        except Timeout as error:
            raise InputError(
                f"{path} is in use by another process: wait until it ends, or choose another "
                "directory"
            ) from error
        try:
            for leftover in filter(_is_aside, path.iterdir()):
                shutil.rmtree(leftover)
            yield checkpoints
        finally:
            lock.release()

    def newest(self, settings: Mapping[str, Any], widths: FloatArray) -> History | None:
        """Read the newest whole checkpoint of the run with these settings; None without any.

        Parameters
        ----------
        settings : mapping of str to any
        widths : (n_clients,) floats
            As for :func:`check_same_run`.

        Raises
        ------
        InputError
            As :meth:`read` and :func:`check_same_run` do.
        """
        found = self.read()
        if found is not None:
            check_same_run(self._place(found.rounds), found, settings, widths)
        return found

    def read(self) -> History | None:
        """Read the newest whole checkpoint, whatever its run; None without any.

        A newer one that is damaged is passed over with a warning.

        Raises
        ------
        InputError
            If all checkpoints are damaged.
        """
        damaged: list[str] = []
        for number in self._rounds():
            try:
                found = History.load(self._place(number))
            except InputError as error:
                damaged.append(str(error))
                continue
            if damaged:
                warnings.warn(
                    f"passed over a damaged checkpoint ({damaged[0]}): going on after round "
                    f"{found.rounds}",
                    stacklevel=4,
                )
            self._chunks = chunks_in(self._place(number))
            return found
        if damaged:
            raise InputError(
                f"{self._directory} holds no whole checkpoint ({'; '.join(damaged)}): delete it to "
                "start from the first round"
            )
        return None

    def save(self, history: History) -> None:
        """Write the checkpoint of the last round, then delete all but the one before it.

        Raises
        ------
        StorageError
            If the disk does not take it; the checkpoints before it are intact.
        """
        self._chunks = history.save_beside(self._place(history.rounds), self._chunks)
        for number in self._rounds():
            if not 0 <= history.rounds - number < KEPT:
                shutil.rmtree(self._place(number))

    def _rounds(self) -> list[int]:
        """Numbers of finished rounds of which there is a checkpoint, the largest first."""
        names = (_NAME.fullmatch(entry.name) for entry in self._directory.iterdir())
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def _place(self, rounds: int) -> Path:
        return self._directory / f"round-{rounds:06d}"


def _is_aside(entry: Path) -> bool:
    """Whether a killed process left this unfinished."""
    return bool(_ASIDE.fullmatch(entry.name))
