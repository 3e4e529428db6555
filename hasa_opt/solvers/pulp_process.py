"""The programs that PuLP starts, such as CBC: they end with the call that they are started for.

PuLP waits for a program and tells nobody which it is, so its modules are given a ``Popen`` that
does. Where no call of ours goes on, it is the one of the standard library.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import pulp

from hasa_opt._utils.deadline import OutOfTime

__all__ = ["Programs"]

_here = threading.local()


class Programs:
    """What PuLP starts for one call, in whichever thread it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: list[_Program] = []
        self._over = False

    @contextmanager
    def of(self, solver: pulp.LpSolver) -> Iterator[None]:
        """While a solver runs in this thread; its files are deleted however it ends.

        Raises
        ------
        OutOfTime
            If the call is over.
        """
        self._check()
        module = sys.modules[type(solver).__module__]
        if getattr(module, "subprocess", None) is subprocess:
            module.subprocess = _WATCHED  # type: ignore[attr-defined]
        _here.programs, place = self, getattr(solver, "tmpDir", "")
        try:
            with TemporaryDirectory(dir=place or None) as solver.tmpDir:
                yield
        finally:
            solver.tmpDir = place
            del _here.programs

    def add(self, program: _Program, *arguments: Any, **options: Any) -> None:
        """Start a program.

        Raises
        ------
        OutOfTime
            If the call is over.
        """
        with self._lock:
            if self._over and (log := options.get("stdout")) is not None:
                log.close()  # PuLP opened it for the program and would leave it open.
            self._check()
            program.start(*arguments, **options)
            self._started.append(program)

    def end(self) -> None:
        """End what still runs, and whatever would be started from now on."""
        with self._lock:
            self._over = True
            for program in self._started:
                program.kill()

    def _check(self) -> None:
        if self._over:
            raise OutOfTime


class _Program(subprocess.Popen[Any]):
    def __init__(self, *arguments: Any, **options: Any) -> None:
        programs: Programs | None = getattr(_here, "programs", None)
        if programs is None:
            self.start(*arguments, **options)
        else:
            programs.add(self, *arguments, **options)

    def start(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)


_WATCHED = ModuleType(subprocess.__name__)
vars(_WATCHED).update(vars(subprocess), Popen=_Program)
