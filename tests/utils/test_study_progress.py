"""Progress of a study: shown where somebody is looking, and nowhere else."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from support.killed_runs import split

from hasa_opt import Study
from hasa_opt._utils import progress
from hasa_opt.models import MLP
from hasa_opt.tasks import Task


@pytest.fixture
def study() -> Study:
    parts = [[split(12, 10 * k + at) for at in range(2)] for k in range(3)]
    task = Task("toy", ("a", "b"), *parts, np.ones((2, 3), dtype=np.int64), 3)
    return Study(task, MLP(6, 3, hidden=(4,)), policies=["uniform"], seeds=[0, 1], rounds=2)


def shown(monkeypatch, **kind) -> io.StringIO:
    """What a console of some kind is given."""
    out = io.StringIO()
    monkeypatch.setattr(
        progress, "Console", lambda stderr: Console(file=out, width=80, stderr=False, **kind)
    )
    return out


def test_on_a_terminal_there_is_a_bar(study, monkeypatch) -> None:
    out = shown(monkeypatch, force_terminal=True)
    study.run(compare_solvers=False)
    assert "training: 2 of 2 runs" in out.getvalue()
    assert "rounds" in out.getvalue()


def test_where_nobody_looks_nothing_is_printed(study, capfd) -> None:
    study.run(compare_solvers=False)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("options", [{"progress": False}, {"on_progress": lambda done, of: None}])
def test_a_callback_or_a_wish_for_silence_takes_its_place(study, monkeypatch, options) -> None:
    out = shown(monkeypatch, force_terminal=True)
    study.run(compare_solvers=False, **options)
    assert out.getvalue() == ""


def test_in_a_notebook_a_line_changes(study, monkeypatch) -> None:
    shown(monkeypatch, force_jupyter=True)
    lines = []

    def display(content, *, raw, display_id):
        lines.append(content["text/plain"])
        return SimpleNamespace(update=lambda content, raw: lines.append(content["text/plain"]))

    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    study.run(compare_solvers=False)
    assert lines[0] == "training"
    assert lines[-1] == "training: 4 of 4 rounds"
