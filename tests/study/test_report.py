"""The report and its figures, drawn from a stand-in study of known numbers."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from rich.console import Console
from scipy import stats
from support.fake_study import FOURTEEN, NAMES, SAMPLES, WIDTHS, FakeStudy, make_study

import hasa_opt as hasa
from hasa_opt.errors import InputError
from hasa_opt.study import curves, plots
from hasa_opt.study.claims import headline
from hasa_opt.study.outcome import gather
from hasa_opt.study.report import write_report
from hasa_opt.study.results import CHOICES
from hasa_opt.study.tables import allocation_table, costs_table, results_table


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
        begin = "data:image/svg+xml;base64,"
        self.pictures = [each for each in self.addresses if each.startswith(begin)]
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "srcset")]

    def handle_data(self, data: str) -> None:
        if (self.tags or [""])[-1] not in ("style", "script"):
            self.words.append(data)


def render(study: FakeStudy, folder: Path) -> Page:
    measured = (study.results, study.outcomes, study.comparison)
    return Page(write_report(study, *measured, folder / "report.html"))


def said(study: FakeStudy) -> str:
    return headline(study.results, study.budget)


@pytest.fixture
def text_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the figures out, which take longest."""
    monkeypatch.setattr("hasa_opt.study.report.pictures", lambda *measured: [])


def test_the_report_is_one_file_without_outside_links(tmp_path: Path) -> None:
    page = render(make_study(comparison=COMPARISON, description=SETTING, command=COMMAND), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert len(page.pictures) == page.tags.count("img") == 2 + 3 * len(CHOICES)
    assert all(
        address.startswith("#") for address in page.addresses if address not in page.pictures
    )
    assert not {"link", "iframe"} & set(page.tags)
    assert page.tags.count("script") == 1
    assert "url(" not in page.source
    assert "@import" not in page.source


@pytest.mark.usefixtures("text_only")
def test_the_report_states_setting_data_and_command(tmp_path: Path) -> None:
    page = render(make_study(comparison=COMPARISON, description=SETTING, command=COMMAND), tmp_path)
    for fact in (*SETTING.values(), COMMAND, "0136" * 16, "0.2, 0.35, 0.5, 0.65, 0.8", "1846"):
        assert fact in page.text
    for row in make_study().summary():
        assert f"{row.mean:.2f} ± {row.mean_std:.2f}" in page.text
        assert f"{row.realised:.4f}" in page.text


@pytest.mark.usefixtures("text_only")
def test_solver_rows_show_disproved_claims_and_missing_numbers(tmp_path: Path) -> None:
    page = render(make_study(comparison=COMPARISON), tmp_path)
    assert COMPARISON.verdict in page.text
    assert re.search(r"pulp over the limit by 3 .*? failed no ", page.text)
    assert re.search(rf"flow {DASH} 1\.034217 {DASH} 0\.0121 optimal {DASH}", page.text)


@pytest.mark.usefixtures("text_only")
def test_sections_without_content_are_left_out(tmp_path: Path) -> None:
    page = render(make_study(), tmp_path)
    assert "Solvers on the same problem" not in page.text
    assert "pre" not in page.tags
    assert "Beside this report" not in page.text


@pytest.mark.usefixtures("text_only")
def test_contents_lead_to_sections_and_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "results.csv").touch()
    page = render(make_study(command=COMMAND), tmp_path)
    anchors = [address for address in page.addresses if address.startswith("#")]
    assert len(anchors) == 9
    assert all(f'id="{anchor[1:]}"' in page.source for anchor in anchors)
    assert "results.csv" in page.addresses
    assert "rounds.csv" not in page.addresses
    assert "Versions" in page.text
    assert "minutes of local training in 40 runs" in page.text
    assert "what hasa is" in page.text


@pytest.mark.usefixtures("text_only")
def test_every_seed_and_client_is_a_dot_that_says_what_it_is(tmp_path: Path) -> None:
    study = make_study({"uniform": 0.0, "hasa": 0.5}, n_seeds=3)
    page = render(study, tmp_path)
    points = len(CHOICES) * 3  # against operations, bytes and the server's storage
    assert page.tags.count("circle") == 2 * (4 * 3 + len(NAMES) + points)
    value = study.results.measure("mean")[1, 2]
    assert f"<title>hasa, seed 2: {value:.2f} %</title>" in page.source
    client = 100 * study.results.own[0, :, 1].mean()
    assert f"<title>uniform, {NAMES[1]}: {client:.2f} %</title>" in page.source


@pytest.mark.usefixtures("text_only")
def test_who_sends_or_computes_more_than_uniform_is_named(tmp_path: Path) -> None:
    study = make_study({"uniform": 0.0, "hasa": 0.5, "reverse": -1.0}, n_seeds=2)
    for outcome in study.outcomes:
        if outcome.policy == "hasa":
            outcome.history.bytes_up *= 2
    text = render(study, tmp_path).text
    told = "At this budget, beside uniform: hasa sends 50 % more bytes."
    assert told in text
    assert told in printed(costs_table(study.results, 0.5, {}))


@pytest.mark.usefixtures("text_only")
def test_client_names_and_settings_are_escaped(tmp_path: Path) -> None:
    names = ("<script>alert(1)</script>", "a & b", "$\\frac{1", "two\nlines", 'q"><img src=x>')
    study = make_study(
        {"<b>bold</b>": 0.0, "uniform": 0.1}, names=names, description={"<i>": "</dl>"}
    )
    study.task.name = "<title>"
    page = render(replace(study, command="x < y && 'z'"), tmp_path)
    assert not page.pictures
    assert "img" not in page.tags
    assert not {"b", "i"} & set(page.tags)
    assert page.tags.count("script") == 1
    assert page.tags.count("title") == 1 + page.tags.count("circle")
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
    sentence = said(make_study(gains, **options))
    assert re.search(expected, sentence), sentence
    assert ("better" in sentence) == ("is better" in expected)


def test_the_interval_is_paired_by_seed() -> None:
    """Seeds that differ far more than the policies do hide nothing: only differences count."""
    study = make_study({"uniform": 0.0, "hasa": 0.3}, n_seeds=4, noise=0)
    for outcome in study.outcomes:
        base = 0.14 + outcome.seed / 10
        gain = (outcome.seed + 1) / 1000 if outcome.policy == "hasa" else 0
        outcome.own = np.full(7, base + gain)
    # Differences 0.1, 0.2, 0.3, 0.4 points: 0.25 +- t(0.975, 3) * 0.1291 / 2 = 0.25 +- 0.2054.
    assert "0.25 points" in said(study)
    assert "95 % interval +0.04 to +0.46, 4 seeds" in said(study)


def test_the_headline_tells_allocation_from_options() -> None:
    gains = {"uniform": 0.0, "hasa": 0.0, "uniform+personal": 1.0, "hasa+personal": 1.01}
    sentence = said(make_study(gains, noise=0.004))
    assert re.match(r"\w+\+personal is better than uniform by 1\.\d\d points", sentence)
    sentence = said(make_study({**gains, "hasa+personal": 1.3}, noise=0.004))
    assert re.match(r"hasa\+personal is better than uniform", sentence)
    assert re.search(r"against uniform\+personal, is \+0\.\d\d points", sentence)


@pytest.mark.usefixtures("text_only")
def test_policies_that_miss_the_budget_are_marked(tmp_path: Path) -> None:
    assert "misses the budget" not in render(make_study(), tmp_path).text.split("Worst third:")[0]
    page = render(make_study(flagged=("reverse",)), tmp_path)
    assert "reverse misses the budget" in page.text
    assert "worse" not in page.text, "a policy that spent something else is not judged"


# --- Words ---------------------------------------------------------------------------------------


def corrected(p_values: list[float]) -> list[float]:
    """Holm's p-values, by their definition."""
    order = sorted(range(len(p_values)), key=lambda row: p_values[row])
    found, largest = [0.0] * len(p_values), 0.0
    for position, row in enumerate(order):
        largest = max(largest, (len(p_values) - position) * p_values[row])
        found[row] = min(1.0, largest)
    return found


def weighted(values: np.ndarray) -> float:
    return float(np.average(values, weights=SAMPLES))


MEASURED: dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda values: float(values.mean()),
    "weighted": weighted,
    "worst": lambda values: float(values.min()),
    "worst_third": lambda values: float(np.sort(values)[:2].mean()),
}
"""Of seven clients."""


def expected_words(
    study: FakeStudy, pairs: list[tuple[str, str]], kind: str, measure: str = "mean"
) -> list[str]:
    """What scipy's t test and Holm's correction let one say about each pair."""
    means = {
        (own.policy, own.seed): 100 * MEASURED[measure](getattr(own, kind))
        for own in study.outcomes
    }
    columns = {name: [means[name, seed] for seed in study.seeds] for name in study.policies}
    p_values = [float(stats.ttest_rel(columns[a], columns[b]).pvalue) for a, b in pairs]
    gaps = [float(np.mean(np.subtract(columns[a], columns[b]))) for a, b in pairs]
    return [
        "not told apart" if p >= 0.05 else "better" if gap > 0 else "worse"
        for p, gap in zip(corrected(p_values), gaps, strict=True)
    ]


def random_studies() -> Iterator[FakeStudy]:
    """Studies of every kind: few and many seeds and policies, gains from none to large."""
    for number in range(40):
        rng = np.random.default_rng([5, number])
        names = ["uniform", *rng.choice(FOURTEEN[1:], size=rng.integers(1, 6), replace=False)]
        if number % 3 == 0:
            names += ["uniform+personal", "hasa+personal"]
        scale = rng.choice([0.0, 0.05, 0.2])
        gains = {str(name): 0.0 if name == "uniform" else rng.normal(0, scale) for name in names}
        yield make_study(
            gains,
            n_seeds=int(rng.choice([2, 3, 5, 10])),
            noise=0.004,
            names=tuple("abcdefg"),
            supernet=number % 2 == 0,
            seed=number,
        )


@pytest.mark.usefixtures("text_only")
def test_better_and_worse_stand_only_where_the_corrected_interval_leaves_zero_out(
    tmp_path: Path,
) -> None:
    counts = {"better": 0, "worse": 0, "not told apart": 0}
    for study in random_studies():
        words = expected_words(study, [(name, "uniform") for name in study.policies[1:]], "own")
        expected = [word for name in CHOICES for word in words_of_tables(study, name)]
        text = render(study, tmp_path).text
        title = re.search(r"Subnet allocation on titles (.*) 7 clients", text)
        assert title is not None
        in_title = len(re.findall(r"\bbetter\b", title[1]))
        allowed = "better" in words and in_title <= 2  # once as the kicker, once as the title
        assert in_title == 0 or allowed, title[1]
        body = text.replace(title[1], "")
        for word in counts:
            assert len(re.findall(rf"\b{word}\b", body)) == expected.count(word), (word, text)
            counts[word] += expected.count(word)
        assert ("better" in words) == (in_title > 0), title[1]
    assert min(counts.values()) > 20, "the search must have met every word"


def words_of_tables(study: FakeStudy, measure: str) -> list[str]:
    """What all tables of one measure say."""
    pairs = [(name, "uniform") for name in study.policies[1:]]
    words = expected_words(study, pairs, "own", measure)
    expected = [*words, *words]  # in the first table and among the statistics
    if "hasa+personal" in study.policies:
        same = expected_words(study, [("hasa+personal", "uniform+personal")], "own", measure)
        plain = [("uniform+personal", "uniform")]
        plain += [("hasa+personal", "hasa")] if "hasa" in study.policies else []
        with_options = [words[study.policies.index(n) - 1] for n in study.policies[-2:]]
        expected += [*with_options, *expected_words(study, plain, "own", measure), *same, *same]
    if np.isfinite(study.outcomes[0].supernet).all():
        expected += expected_words(study, pairs, "supernet", measure)
    return expected


@pytest.mark.usefixtures("text_only")
def test_one_seed_supports_no_word(tmp_path: Path) -> None:
    text = render(make_study(n_seeds=1), tmp_path).text
    assert not re.search(r"\b(better|worse)\b", text)
    assert "Statistics" not in text


# --- Measures ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("text_only")
def test_own_and_supernet_accuracies_stand_side_by_side(tmp_path: Path) -> None:
    study = make_study(supernet=True)
    text = render(study, tmp_path).text
    for row in study.summary():
        for name in ("weighted", "worst", "worst_third", "spread"):
            own, full = getattr(row, name), getattr(row.supernet, name)
            own_std, full_std = getattr(row, f"{name}_std"), getattr(row.supernet, f"{name}_std")
            assert f"{own:.2f} ± {own_std:.2f} {full:.2f} ± {full_std:.2f}" in text
    assert "Full supernet" not in render(make_study(), tmp_path).text


@pytest.mark.usefixtures("text_only")
def test_a_difference_that_hangs_on_one_client_names_it(tmp_path: Path) -> None:
    assert "No difference to uniform changes its sign" in render(make_study(), tmp_path).text
    study = make_study({"uniform": 0.0, "hasa": -0.1}, noise=0.0005)
    for outcome in study.outcomes:
        if outcome.policy == "hasa":
            outcome.own = outcome.own + np.array([0, 0, 0, 0, 0, 0, 0.05])
    text = render(study, tmp_path).text
    found = "hasa against uniform: without Better Humans the difference changes its sign, from +0.6"
    assert text.count(found) == 2, "beside the claim, and beside the table"


@pytest.mark.usefixtures("text_only")
def test_costs_and_widths_are_shown(tmp_path: Path) -> None:
    text = render(make_study(), tmp_path).text
    # 30 rounds x 7 clients x 1 GFLOP, 2 MB; peak width 0.8 at 1 MB per width.
    assert "hasa 0.5000 0.4782 0.800 0.478 210 GFLOP 420 MB 800 kB 2 MB 0 B 30" in text


@pytest.mark.usefixtures("text_only")
def test_what_was_measured_before_a_run_is_shown(tmp_path: Path) -> None:
    study = make_study()
    assert "Measured before" not in render(study, tmp_path).text
    for outcome in study.outcomes:
        outcome.measuring = 2.0 + outcome.seed / 10 if outcome.policy == "optimal" else 0.0
    text = render(study, tmp_path).text
    assert "800 kB 2 MB 0 B 245 % 30" in text
    assert "800 kB 2 MB 0 B 0 % 30" in text
    assert "the budget does not count it" in text


def test_clients_that_never_trained_do_not_count_in_the_trained_width() -> None:
    study = make_study({"uniform": 0.0})
    for outcome in study.outcomes:
        outcome.history.mean_width[:, 1] = np.nan
        outcome.history.mean_width[:, 2] = 0.2
    samples = np.delete(study.task.samples, 1)
    widths = np.delete(np.where(np.arange(7) == 2, 0.2, 0.5), 1)
    (row,) = study.summary()
    assert row.costs.trained == pytest.approx(np.average(widths, weights=samples))


@pytest.mark.usefixtures("text_only")
def test_rounds_chosen_on_validation_are_said_to_be(tmp_path: Path) -> None:
    study = make_study()
    assert "Measured after the last round" in render(study, tmp_path).text
    for outcome in study.outcomes:
        outcome.rounds = 20 + outcome.seed
    text = render(study, tmp_path).text
    assert "the best accuracy on pooled validation data" in text
    assert "800 kB 2 MB 0 B 24.5" in text


@pytest.mark.usefixtures("text_only")
def test_clients_without_test_data_are_named_and_left_out_everywhere(tmp_path: Path) -> None:
    study = make_study()
    study.outcomes[3].own = np.where(np.arange(7) == 1, np.nan, study.outcomes[3].own)
    text = render(study, tmp_path).text
    assert "left out everywhere: UX Collective" in text
    assert "nan" not in text


def test_a_study_without_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist: create it first"):
        render(make_study(), tmp_path / "absent")


@pytest.mark.parametrize(
    ("study", "words"),
    [
        (make_study(names=("a",)), "hasa is better than uniform"),
        (make_study({"hasa": 0.0, "hasa+personal": 1.0}), "there is no uniform policy"),
        (make_study({"uniform": 0.0}), "no other policy meets the budget"),
        (make_study({"uniform": 0.0, "hasa": 0.0}, noise=0), "this cannot be told from zero"),
        (make_study(noise=float("nan"), n_seeds=2), "No client has test data"),
    ],
)
@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("text_only")
def test_studies_with_little_in_them_are_reported(
    study: FakeStudy, words: str, tmp_path: Path
) -> None:
    page = render(study, tmp_path)
    assert words in page.text
    assert not re.search(r"\bnan\b|\binf\b", page.text)
    assert printed(results_table(study.results, 0.5, "titles"))


@pytest.mark.usefixtures("text_only")
def test_many_clients_are_named_in_short(tmp_path: Path) -> None:
    study = make_study({"uniform": 0.0, "hasa": 0.0}, noise=0, names=tuple(map(str, range(40))))
    for outcome in study.outcomes:
        if outcome.policy == "hasa":
            gains = np.resize([0.1, -0.1], 40) + outcome.seed * 1e-6
            outcome.own = outcome.own + gains
    text = render(study, tmp_path).text
    assert "and 33 more" in text
    assert text.count("Without 3") < 40
    assert "Shown: the 12 clients that move a difference most, of 40" in text


# --- Tables --------------------------------------------------------------------------------------


def printed(table: Any, width: int = 100) -> str:
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def rows_of(text: str) -> list[str]:
    """Lines of a table, those that go on with the options of a name joined to its first."""
    rows: list[str] = []
    for line in text.splitlines():
        if line.strip().startswith("+"):
            name, _, rest = rows[-1].strip().partition(" ")
            rows[-1] = f"{name}{line.strip()} {rest}"
        else:
            rows.append(line.rstrip())
    return rows


def test_the_table_of_fourteen_policies_with_options_fits_a_hundred_columns() -> None:
    names = [*FOURTEEN, *(f"{name}+personal" for name in FOURTEEN)]
    study = make_study(dict.fromkeys(names, 0.1), n_seeds=3, supernet=True)
    text = printed(results_table(study.results, 0.5, "titles"))
    assert "\u2026" not in text
    lines = rows_of(text)
    for row in study.summary():
        line = next(own for own in lines if own.split()[:1] == [row.policy])
        assert f"{row.mean:.2f} ± {row.mean_std:.2f}" in line
        numbers = [f"{row.worst:.2f}", f"{row.worst_third:.2f}", f"{row.supernet.mean:.2f}"]
        assert " ".join(numbers) in " ".join(line.split())
        assert line.endswith(f"{row.realised:.4f}" + "*" * (abs(row.realised / 0.5 - 1) > 0.005))


@pytest.mark.parametrize("measuring", [{}, {"measured": 2.15}])
def test_the_costs_of_policies_with_options_fit_a_hundred_columns(
    measuring: dict[str, float],
) -> None:
    names = [*FOURTEEN, "uniform+personal+local_bias", "hasa+personal+local_bias"]
    study = make_study(dict.fromkeys(names, 0.1), n_seeds=2)
    text = printed(costs_table(study.results, 0.5, measuring))
    assert "\u2026" not in text
    lines = [" ".join(line.split()) for line in rows_of(text)]
    shares = {name: f" {measuring.get(name, 0):.2f}" if measuring else "" for name in names}
    for name in names:
        if name not in ("hasa", "reverse", "optimal", "hasa+personal+local_bias"):
            costs = "0.5000 0.500 0.500 210 GFLOP 420 MB 500 kB 2 MB 0 B"
            assert f"{name} {costs}{shares[name]}" in lines


def test_the_allocation_of_fourteen_policies_fits_a_hundred_columns() -> None:
    widths = {name: np.linspace(0.2, 0.8, 7) + row / 1000 for row, name in enumerate(FOURTEEN)}
    clients = hasa.Clients(make_study().task.samples, names=NAMES)
    realised = dict.fromkeys(FOURTEEN, 0.5)
    text = printed(allocation_table("Widths", clients, np.arange(7) / 10, widths, realised))
    for name, own in widths.items():
        assert name in text
        assert all(f"{width:.3f}" in text for width in own)
    assert text.count("Better Humans") == text.count("realised budget") > 1


# --- Figures ------------------------------------------------------------------------------------


def by_round(study: FakeStudy) -> Any:
    targets = np.array([len(split.targets) for split in study.task.validation])
    return curves.by_round(study.results, study.outcomes, targets)


def markers(figure: Any) -> dict[str, list[float]]:
    """Positions along the value axis of each policy's markers."""
    return {
        container.get_label(): container.lines[0].get_xdata().tolist()
        for container in figure.axes[0].containers
    }


def test_allocation_shows_every_policy_and_client() -> None:
    figure = plots.allocation(make_study().results)
    drawn = markers(figure)
    assert list(drawn) == list(WIDTHS)
    for policy, widths in WIDTHS.items():
        assert drawn[policy] == pytest.approx(widths)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(NAMES)


def test_accuracy_by_client_is_the_mean_over_seeds_in_percent() -> None:
    study = make_study()
    drawn = markers(plots.by_client(study.results))
    final = [o.own for o in study.outcomes if o.policy == "hasa"]
    assert drawn["hasa"] == pytest.approx(100 * np.mean(final, axis=0))


def test_curves_of_validation_and_test_have_a_line_and_a_band_per_policy() -> None:
    study = make_study()
    above, below = by_round(study).axes
    targets = [len(split.targets) for split in study.task.validation]
    own = [o for o in study.outcomes if o.policy == "uniform"]
    pooled = [np.average(o.history.validation_metric[-1], weights=targets) for o in own]
    means = [o.history.test_metric[-1].mean() for o in own]
    for axes, final in ((above, pooled), (below, means)):
        assert [line.get_label() for line in axes.lines] == list(study.policies)
        assert len(axes.collections) == len(study.policies)
        assert axes.lines[0].get_xdata().tolist() == list(range(1, 31))
        assert axes.lines[0].get_ydata()[-1] == pytest.approx(100 * np.mean(final))
        top = axes.collections[0].get_paths()[0].vertices[:, 1].max()
        assert top > axes.lines[0].get_ydata().max()


def test_curves_against_what_was_spent_are_those_against_rounds_drawn_elsewhere() -> None:
    study = make_study()
    panels = curves.by_cost(study.results, study.outcomes).axes
    assert [axes.get_xlabel() for axes in panels] == ["MB received and sent", "TFLOP of training"]
    n_clients = len(study.results.clients)
    wanted = by_round(study).axes[1].lines[0].get_ydata()
    for axes, each in zip(panels, (2 * n_clients, n_clients / 1000), strict=True):
        assert axes.lines[0].get_xdata() == pytest.approx(each * np.arange(1, 31))
        assert axes.lines[0].get_ydata() == pytest.approx(wanted)


def test_a_clock_adds_seconds_and_joules_to_curves_tables_and_report(tmp_path: Path) -> None:
    study = make_study({"uniform": 0.0, "hasa": 0.5}, n_seeds=2)
    for outcome in study.outcomes:
        pace = 2.0 if outcome.policy == "hasa" else 3.0
        outcome.history.clock_seconds[:] = pace
        outcome.history.clock_joules[:] = 0.5
        outcome.history.round_seconds[:] = pace
    timed = gather(study.outcomes, study.results.clients, study.results.samples)
    *_, seconds, joules = curves.by_cost(timed, study.outcomes).axes
    assert (seconds.get_xlabel(), joules.get_xlabel()) == (
        "Seconds by the clock",
        "Joules by the clock",
    )
    ends = {line.get_label(): line.get_xdata()[-1] for line in seconds.lines}
    assert ends == pytest.approx({"uniform": 90, "hasa": 60})
    headings = [column.header for column in costs_table(timed, 0.5, {}).columns]
    assert headings[-2:] == ["seconds", "joules"]
    untimed = costs_table(make_study().results, 0.5, {})
    assert "seconds" not in [column.header for column in untimed.columns]
    page = render(study, tmp_path).text
    assert "Seconds by the clock" in page
    assert "90 s" in page


def test_policies_of_one_run_share_a_line_and_all_are_in_the_legend() -> None:
    study = make_study({"uniform": 0.0, "uniform+personal": 1.0, "hasa": 0.5}, n_seeds=2)
    for outcome, twin in zip(study.outcomes[:2], study.outcomes[2:4], strict=True):
        twin.history = outcome.history
    for axes in by_round(study).axes:
        assert [line.get_label() for line in axes.lines] == ["uniform", "hasa"]
    (legend,) = curves.overview(study.results, study.outcomes).legends
    assert {text.get_text() for text in legend.get_texts()} == set(study.policies)


def test_the_round_that_was_chosen_is_marked() -> None:
    study = make_study({"uniform": 0.0, "hasa": 0.1}, n_seeds=2)
    for outcome in study.outcomes:
        outcome.rounds = 10 + 4 * outcome.seed if outcome.policy == "hasa" else 30
    for axes in by_round(study).axes:
        stars = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "*"]
        assert stars == [12]


def test_many_policies_are_drawn_as_a_matrix() -> None:
    study = make_study(dict.fromkeys(FOURTEEN, 0.1) | {"uniform": 0.0}, n_seeds=2)
    (axes,) = plots.by_client(study.results).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(FOURTEEN)
    uniform, hasa_ = (
        np.mean([own.own for own in study.outcomes if own.policy == name], axis=0)
        for name in FOURTEEN[:2]
    )
    colours = axes.images[0].get_array()
    assert np.asarray(colours)[1] == pytest.approx(100 * (hasa_ - uniform))
    assert not np.asarray(colours)[0].any()
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers[2, 1] == f"{100 * hasa_[2]:.1f}"


def test_differences_show_both_intervals() -> None:
    study = make_study(supernet=True)
    own, _ = plots.differences(study.results).axes
    assert [label.get_text() for label in own.get_yticklabels()] == ["hasa", "reverse", "optimal"]
    thin, thick, dot = (line.get_xdata() for line in own.lines[:3])
    assert thin[0] < thick[0] < dot[0] < thick[1] < thin[1]


def test_many_clients_show_the_largest() -> None:
    study = make_study(names=tuple(f"c{row}" for row in range(100)), n_seeds=1)
    axes = plots.allocation(study.results).axes[0]
    assert axes.get_title(loc="left").endswith("(30 largest clients)")
    shown = [int(label.get_text()[1:]) for label in axes.get_yticklabels()]
    assert min(study.task.samples[shown]) >= max(np.delete(study.task.samples, shown))


@pytest.mark.parametrize("name", ["$\\frac{1$", "A" * 60 + "$"])
def test_names_are_drawn_as_they_are(name: str) -> None:
    study = make_study({name: 0.0}, names=(name, "two\nlines"), n_seeds=2)
    figure = plots.by_client(study.results)
    figure.savefig(io.BytesIO())  # invalid mathematical text would raise here
    first, second = (label.get_text() for label in figure.axes[0].get_yticklabels())
    assert first == (name if len(name) < 27 else "A" * 25 + "\u2026")
    assert second == "two lines"


def test_figures_leave_pyplot_alone() -> None:
    import matplotlib.pyplot as plt

    backend, before = mpl.get_backend(), plt.get_fignums()
    by_round(make_study())
    assert plt.get_fignums() == before
    assert mpl.get_backend() == backend


def test_data_uris_hold_svg(tmp_path: Path) -> None:
    for address in render(make_study(), tmp_path).pictures:
        assert b"<svg" in base64.b64decode(address.split(",")[1])
