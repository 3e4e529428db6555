"""The report and its figures, drawn from a stand-in study of known numbers."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

from hasa_opt import plots
from hasa_opt.errors import InputError
from hasa_opt.outcome import SummaryRow
from hasa_opt.report import headline, write_report

NAMES = (
    *("Towards Data Science", "UX Collective", "The Startup", "The Writing Cooperative"),
    *("Data Driven Investor", "Better Marketing", "Better Humans"),
)
SAMPLES = np.array([1020, 388, 2122, 282, 544, 170, 20])
LEVEL = np.array([13.9, 14.6, 12.8, 15.2, 12.9, 15.8, 11.6]) / 100
WIDTHS = {
    "uniform": np.full(7, 0.5),
    "hasa": np.array([0.46, 0.57, 0.45, 0.68, 0.34, 0.8, 0.8]),
    "reverse": np.array([0.5, 0.4, 0.58, 0.3, 0.62, 0.22, 0.2]),
    "optimal": np.array([0.5, 0.5, 0.5, 0.65, 0.35, 0.8, 0.8]),
}


@dataclass(frozen=True)
class FakeStudy:
    """What the report reads of a study."""

    task: Any
    policies: tuple[str, ...]
    seeds: tuple[int, ...]
    outcomes: tuple[Any, ...]
    comparison: Any = None
    budget: float = 0.5
    widths: tuple[float, ...] = (0.2, 0.35, 0.5, 0.65, 0.8)
    rounds: int = 30
    command: str | None = None
    setting: Any = None
    flagged: tuple[str, ...] = ()

    def summary(self) -> list[SummaryRow]:
        rows = []
        for policy in self.policies:
            own = [outcome for outcome in self.outcomes if outcome.policy == policy]
            final = np.sort(100 * np.stack([outcome.history.test_accuracy[-1] for outcome in own]))
            columns = (final.mean(axis=1), final[:, 0], final[:, :2].mean(axis=1))
            moments = [float(f(column)) for column in columns for f in (np.mean, np.std)]
            rows.append(SummaryRow(policy, *moments, own[0].realised, policy in self.flagged))
        return rows


def make_study(
    gains: dict[str, float] | None = None,
    *,
    n_seeds: int = 10,
    noise: float = 0.002,
    names: tuple[str, ...] = NAMES,
    **changes: Any,
) -> FakeStudy:
    """Build a study in which a policy's mean accuracy is ``gains`` points over uniform's."""
    gains = gains or {"uniform": 0.0, "hasa": 0.5, "reverse": -0.8, "optimal": 0.35}
    rng = np.random.default_rng(0)
    ramp = 1 - np.exp(-np.arange(1, 31) / 7)
    level = np.resize(LEVEL, len(names))
    samples = np.resize(SAMPLES, len(names))
    outcomes = []
    for policy, gain in gains.items():
        widths = np.resize(WIDTHS.get(policy, WIDTHS["uniform"]), len(names))
        for seed in range(n_seeds):
            wobble = rng.normal(0, noise, (30, len(names)))
            history = SimpleNamespace(
                test_accuracy=np.outer(ramp, level + gain / 100) + wobble - wobble[-1].mean() * 0.5
            )
            realised = float(np.average(widths, weights=samples))
            outcomes.append(
                SimpleNamespace(
                    policy=policy, seed=seed, widths=widths, realised=realised, history=history
                )
            )
    task = SimpleNamespace(
        name="titles",
        client_names=names,
        samples=samples,
        n_outputs=1846,
        fingerprint={"file": "medium_data.csv", "texts": "6488", "texts sha256": "0136" * 16},
    )
    study = FakeStudy(task, tuple(gains), tuple(range(n_seeds)), tuple(outcomes), setting={})
    return replace(study, **changes)


def solver_row(solver: str, **changes: Any) -> SimpleNamespace:
    row = {
        **{"solver": solver, "objective": 1.034217, "bound": 1.034217, "gap": 0.0},
        **{"termination": "optimal", "cpu_seconds": 0.0121, "claim_held": True, "message": ""},
    }
    return SimpleNamespace(**{**row, **changes})


COMPARISON = SimpleNamespace(
    rows=(
        solver_row("exact", cpu_seconds=0.0004),
        solver_row("highs"),
        solver_row("pulp", claim_held=False, termination="failed", message="over the limit by 3"),
        solver_row("greedy", objective=1.0297, gap=0.0044, termination="gap reached"),
        solver_row("flow", objective=float("nan"), gap=float("inf"), claim_held=None),
    ),
    verdict="exact and highs agree; pulp's answer did not survive verification.",
)
SETTING = {
    "Model": "LSTMLanguageModel(embedding=64, hidden=128, layers=1)",
    "Optimiser": "SGD, learning rate 1.0, batch 16, 1 local epoch",
    "Aggregation": "full",
}
DASH = "\N{EN DASH}"
COMMAND = "hasa-opt study --data medium_data.csv --text-column title --client-column publication"


class Page(HTMLParser):
    """Collects tags, the addresses that they load, and the text that a reader sees."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.source = path.read_text(encoding="utf-8")
        self.feed(self.source)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.words.append(data)


def render(study: FakeStudy, folder: Path) -> Page:
    return Page(write_report(study, folder / "report.html"))  # type: ignore[arg-type]


def test_the_report_is_one_file_without_outside_links(tmp_path: Path) -> None:
    page = render(make_study(comparison=COMPARISON, setting=SETTING, command=COMMAND), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert len(page.addresses) == page.tags.count("img") == 3
    assert all(address.startswith("data:image/svg+xml;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "url(" not in page.source
    assert "@import" not in page.source


def test_the_report_states_setting_data_and_command(tmp_path: Path) -> None:
    page = render(make_study(comparison=COMPARISON, setting=SETTING, command=COMMAND), tmp_path)
    for fact in (*SETTING.values(), COMMAND, "0136" * 16, "0.2, 0.35, 0.5, 0.65, 0.8", "1846"):
        assert fact in page.text
    for row in make_study().summary():
        assert f"{row.mean:.2f} ± {row.mean_std:.2f}" in page.text
        assert f"{row.realised:.4f}" in page.text


def test_solver_rows_show_disproved_claims_and_missing_numbers(tmp_path: Path) -> None:
    page = render(make_study(comparison=COMPARISON), tmp_path)
    assert COMPARISON.verdict in page.text
    assert re.search(r"pulp over the limit by 3 .*? failed no ", page.text)
    assert re.search(rf"flow {DASH} 1\.034217 {DASH} 0\.0121 optimal {DASH}", page.text)


def test_sections_without_content_are_left_out(tmp_path: Path) -> None:
    page = render(make_study(), tmp_path)
    assert "Solvers on the same problem" not in page.text
    assert "Run it again" not in page.text


def test_client_names_and_settings_are_escaped(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", "a & b", "$\\frac{1", "two\nlines", 'q"><img src=x>')
    study = make_study({"<b>bold</b>": 0.0, "uniform": 0.1}, names=names, setting={"<i>": "</dl>"})
    study.task.name = "<title>"
    page = render(replace(study, command="x < y && 'z'"), tmp_path)
    assert page.tags.count("img") == 3
    assert not {"script", "b", "i"} & set(page.tags)
    assert page.tags.count("title") == 1
    assert "x < y && 'z'" in page.text


def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    settings = dict(mpl.rcParams)
    first = render(make_study(), tmp_path).source
    assert render(make_study(), tmp_path).source == first
    assert dict(mpl.rcParams) == settings


@pytest.mark.parametrize(
    ("gains", "options", "expected"),
    [
        (None, {}, r"^hasa is better than uniform by 0\.\d\d points of .* \+0\.\d\d to \+0\.\d\d"),
        ({"uniform": 0, "hasa": 0.02}, {"noise": 0.01}, r"cannot be told from zero\.$"),
        (None, {"n_seeds": 1}, r"one seed cannot tell this from chance\.$"),
        (
            {"uniform": 0, "hasa": -0.6, "reverse": -0.9},
            {},
            "^uniform has .* next, hasa, is at \N{MINUS SIGN}0[.].. points [(]95 % .*[)][.]$",
        ),
        ({"hasa": 0, "reverse": -0.6}, {}, r"there is no uniform policy within the budget"),
        (None, {"flagged": ("hasa", "reverse")}, r"^optimal is better than uniform"),
        (None, {"flagged": tuple(WIDTHS)}, r"^No policy meets the budget of 0\.5"),
        (None, {"flagged": ("hasa", "reverse", "optimal")}, r"no other policy meets the budget"),
    ],
)
def test_the_headline_says_what_the_seeds_support(
    gains: dict[str, float] | None, options: dict[str, Any], expected: str
) -> None:
    sentence = headline(make_study(gains, **options))  # type: ignore[arg-type]
    assert re.search(expected, sentence), sentence
    assert ("better" in sentence) == ("is better" in expected)


def test_the_interval_is_paired_by_seed() -> None:
    """Seeds that differ far more than the policies do hide nothing: only differences count."""
    study = make_study({"uniform": 0.0, "hasa": 0.3}, n_seeds=4, noise=0)
    for outcome in study.outcomes:
        outcome.history.test_accuracy += outcome.seed / 10
    shift = dict(zip(range(4), (0.001, 0.002, 0.003, 0.004), strict=True))
    for outcome in study.outcomes:
        base = next(o for o in study.outcomes if (o.policy, o.seed) == ("uniform", outcome.seed))
        if outcome.policy == "hasa":
            accuracy = base.history.test_accuracy + shift[outcome.seed]
            outcome.history.test_accuracy = accuracy
    # Differences 0.1, 0.2, 0.3, 0.4 points: 0.25 +- t(0.975, 3) * 0.1291 / 2 = 0.25 +- 0.2054.
    assert "0.25 points" in headline(study)  # type: ignore[arg-type]
    assert "95 % interval +0.04 to +0.46, 4 seeds" in headline(study)  # type: ignore[arg-type]


def test_policies_that_miss_the_budget_are_marked(tmp_path: Path) -> None:
    assert "misses the budget" not in render(make_study(), tmp_path).text.split("Worst third:")[0]
    page = render(make_study(flagged=("reverse",)), tmp_path)
    assert "reverse misses the budget" in page.text


def test_a_study_without_outcomes_or_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"call run\(\) first"):
        render(make_study(outcomes=()), tmp_path)
    with pytest.raises(InputError, match="does not exist: create it first"):
        render(make_study(), tmp_path / "absent")


# --- Figures ------------------------------------------------------------------------------------


def markers(figure: Any) -> dict[str, list[float]]:
    """Positions along the value axis of each policy's markers."""
    return {
        container.get_label(): container.lines[0].get_xdata().tolist()
        for container in figure.axes[0].containers
    }


def test_allocation_shows_every_policy_and_client() -> None:
    figure = plots.allocation(make_study())  # type: ignore[arg-type]
    drawn = markers(figure)
    assert list(drawn) == list(WIDTHS)
    for policy, widths in WIDTHS.items():
        assert drawn[policy] == pytest.approx(widths)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(NAMES)


def test_accuracy_by_client_is_the_mean_over_seeds_in_percent() -> None:
    study = make_study()
    drawn = markers(plots.accuracy_by_client(study))  # type: ignore[arg-type]
    final = [o.history.test_accuracy[-1] for o in study.outcomes if o.policy == "hasa"]
    assert drawn["hasa"] == pytest.approx(100 * np.mean(final, axis=0))


def test_accuracy_by_round_has_a_line_and_a_band_per_policy() -> None:
    study = make_study()
    axes = plots.accuracy_by_round(study).axes[0]  # type: ignore[arg-type]
    assert [line.get_label() for line in axes.lines] == list(study.policies)
    assert len(axes.collections) == len(study.policies)
    assert axes.lines[0].get_xdata().tolist() == list(range(1, 31))
    final = [o.history.test_accuracy[-1].mean() for o in study.outcomes if o.policy == "uniform"]
    assert axes.lines[0].get_ydata()[-1] == pytest.approx(100 * np.mean(final))
    top = axes.collections[0].get_paths()[0].vertices[:, 1].max()
    assert top > axes.lines[0].get_ydata().max()


def test_many_clients_show_the_largest() -> None:
    study = make_study(names=tuple(f"c{row}" for row in range(100)), n_seeds=1)
    axes = plots.allocation(study).axes[0]  # type: ignore[arg-type]
    assert axes.get_title(loc="left").endswith("(30 largest clients)")
    shown = [int(label.get_text()[1:]) for label in axes.get_yticklabels()]
    assert min(study.task.samples[shown]) >= max(np.delete(study.task.samples, shown))


@pytest.mark.parametrize("name", ["$\\frac{1$", "A" * 60 + "$"])
def test_names_are_drawn_as_they_are(name: str) -> None:
    study = make_study({name: 0.0}, names=(name, "two\nlines"), n_seeds=2)
    figure = plots.accuracy_by_client(study)  # type: ignore[arg-type]
    figure.savefig(io.BytesIO())  # invalid mathematical text would raise here
    first, second = (label.get_text() for label in figure.axes[0].get_yticklabels())
    assert first == (name if len(name) < 27 else "A" * 25 + "\u2026")
    assert second == "two lines"


def test_figures_leave_pyplot_alone() -> None:
    import matplotlib.pyplot as plt

    backend = mpl.get_backend()
    plots.accuracy_by_round(make_study())  # type: ignore[arg-type]
    assert plt.get_fignums() == []
    assert mpl.get_backend() == backend


def test_data_uris_hold_svg(tmp_path: Path) -> None:
    for address in render(make_study(), tmp_path).addresses:
        assert b"<svg" in base64.b64decode(address.split(",")[1])
