"""What was trained by rounds under policies that decide on the way, against numbers by hand."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.fake_study import make_study

import hasa_opt as hasa
from hasa_opt.study.report import write_report
from hasa_opt.study.rounds import by_rounds
from hasa_opt.study.tables import allocation_table, rounds_table

SAMPLES = np.array([10, 30])


def outcome(policy: str, seed: int, widths: Any, decisions: int, reason: str = "") -> Any:
    history = SimpleNamespace(
        mean_width=np.array(widths, dtype=float), rounds=len(widths), decisions=(None,) * decisions
    )
    return SimpleNamespace(policy=policy, seed=seed, history=history, reason=reason)


def test_widths_are_means_by_samples_over_rounds_and_seeds() -> None:
    absent = np.nan
    found = by_rounds(
        [
            outcome("uniform", 0, [[0.5, 0.5]] * 3, 0),
            outcome("tiers", 0, [[0.2, 0.6], [0.6, 0.2], [absent, 0.4]], 3),
            outcome("tiers", 1, [[0.4, 0.4], [absent, absent], [0.4, 0.4]], 3),
            outcome("late", 0, [[0.4, 0.4]] * 3, 2, "round 1: two groups"),
        ],
        SAMPLES,
    )
    assert found.spans == ("1", "2", "3")
    assert list(found.trained) == ["tiers", "late"]
    assert found.trained["tiers"] == pytest.approx([0.45, 0.3, 0.4])
    assert found.decided == {"tiers": 2, "late": 1}
    assert found.reasons == {"late, seed 0": "round 1: two groups"}


def test_many_rounds_are_put_together() -> None:
    found = by_rounds([outcome("tiers", 0, [[0.2, 0.2]] * 6 + [[0.4, 0.4]] * 6, 12)], SAMPLES)
    assert found.spans == ("1 to 2", "3 to 4", "5 to 6", "7 to 8", "9 to 10", "11 to 12")
    assert found.trained["tiers"] == pytest.approx([0.2] * 3 + [0.4] * 3)


def printed(table: Any) -> str:
    console = Console(record=True, width=100)
    console.print(table)
    return " ".join(console.export_text().split())


def test_tables_say_what_was_decided_and_why() -> None:
    found = by_rounds([outcome("[late]", 3, [[0.4, 0.5]], 1, "round 0: [why]")], SAMPLES)
    text = printed(rounds_table(found))
    assert "[late] 0.4750 0" in text
    assert "[late], seed 3: round 0: [why]" in text
    alike, clients = np.full(2, 0.5), hasa.Clients(SAMPLES)
    widths, realised = {"[late]": alike}, {"[late]": 0.5}
    first = printed(allocation_table("W", clients, alike, widths, realised, ["[late]"]))
    assert "[late]: at first; decides again while the clients train" in first
    assert "at first" not in printed(allocation_table("W", clients, alike, widths, realised))


def test_the_report_says_what_was_decided_where_something_was(tmp_path: Path) -> None:
    study = make_study({"uniform": 0.0, "hasa": 0.1})
    measured = (study.results, study.outcomes, study.comparison)
    path = tmp_path / "report.html"
    write_report(study, *measured, path)
    assert "Decided while the clients trained" not in path.read_text(encoding="utf-8")
    study.outcomes[-1].history.decisions = (None, None)
    study.outcomes[-1].reason = "round 6: two groups"
    write_report(study, *measured, path)
    text = " ".join(path.read_text(encoding="utf-8").split())
    assert "Decided while the clients trained" in text
    assert "Rounds 26 to 30" in text
    assert f"Decided by hasa, seed {study.seeds[-1]}</dt><dd>round 6: two groups" in text
