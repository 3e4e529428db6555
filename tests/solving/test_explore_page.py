"""The page to play with, in a real browser: keys, mouse and finger, wide and narrow, offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.browser import CHROMIUM, Page, browser

import hasa_opt as hasa

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(CHROMIUM is None, reason="needs a browser: apt-get install chromium"),
]

SIZES = pytest.mark.parametrize("width", [1280, 390])


def fleet(n_clients: int, names: list[str]) -> hasa.Frontier:
    rng = np.random.default_rng(0)
    clients = hasa.Clients(
        np.maximum(1, rng.lognormal(5, 1, n_clients).astype(int)), names=names,
        max_width=rng.choice([0.5, 0.75, 1.0], n_clients),
    )  # fmt: skip
    problem = hasa.AllocationProblem.build(
        clients, widths=np.arange(1, 9) / 8, budget=0.5,
        utility=hasa.utility.hasa(rng.random(n_clients)),
        constraints=[hasa.Quota({1.0: n_clients // 10})] if n_clients < 100 else (),
    )  # fmt: skip
    return hasa.frontier(problem, 60 if n_clients < 100 else 300)


@pytest.fixture(scope="module")
def few() -> hasa.Frontier:
    return fleet(10, ["<b>bold</b>", *(f"device {k}" for k in range(1, 10))])


@pytest.fixture(scope="module")
def many() -> hasa.Frontier:
    return fleet(10_000, [f"device-{k:05d}" for k in range(10_000)])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def opened(page: Page, tmp_path: Path):
    widths = []

    def show(found: hasa.Frontier, width: int) -> Page:
        widths.append(width)
        path = found.explore(tmp_path / "explore.html")
        page.requested.clear()
        page.complaints.clear()
        page.open(path, width)
        return page

    yield show
    assert page.complaints == []
    assert page.requested == [(tmp_path / "explore.html").as_uri()]
    assert page.get("document.documentElement.scrollWidth") <= widths[0]


def number(text: str) -> float:
    return float(text.split()[0].rstrip(",").replace(",", ""))


def check(page: Page, found: hasa.Frontier, at: int) -> None:
    """What the page shows is what was solved for the budget."""
    own, before = found.allocations[at], found.allocations[max(at - 1, 0)]
    assert page.get("document.getElementById('slider').value") == str(at)
    said = page.get("document.getElementById('slider').getAttribute('aria-valuetext')")
    assert said == f"budget {page.text('#value')[0]}"
    assert number(page.text("#value")[0]) == pytest.approx(found.budgets[at], rel=1e-5)
    assert number(page.text("#utility")[0]) == pytest.approx(own.objective, rel=1e-6)
    assert number(page.text("#gap")[0]) == pytest.approx(own.gap, rel=0.1)
    assert number(page.text("#price")[0]) == pytest.approx(own.price, rel=1e-3)
    changed = np.count_nonzero(own.choice != before.choice)
    assert page.text("#changed") == ["-" if at == 0 else f"{changed:,}"]
    names, values = page.text("#bars .name"), page.text("#bars .value")
    lengths = page.get("[...document.querySelectorAll('.track i + i')].map(i => i.style.width)")
    shares = [float(length.rstrip("%")) / 100 for length in lengths]
    if len(own.choice) <= 30:
        assert names == list(own.problem.clients.all_names)
        assert values == own.options.tolist()
        assert shares == pytest.approx(own.widths.tolist())
    else:
        counts = np.bincount(own.choice, minlength=8)
        most = max(np.bincount(every.choice).max() for every in found.allocations)
        assert names == list(own.problem.menu.names)
        assert [number(value) for value in values] == counts.tolist()
        assert shares == pytest.approx((counts / most).tolist(), abs=1e-4)
    cells = page.text("#limits td")
    for place, row in enumerate(own.problem.limits):
        label, used, of, price = cells[4 * place : 4 * place + 4]
        assert label == row.label
        assert (number(used), number(of)) == (row.total(own.choice), row.bound)
        assert price.endswith("binds" if own.prices[place] else "slack")
        assert number(price) == pytest.approx(own.prices[place], rel=1e-3)
    sure = hasa.sensitivity(own, n_samples=1)
    for place, changes in (("more", sure.first_to_widen()), ("less", sure.first_to_narrow())):
        told = page.text(f"#{place} li")
        assert [line.rpartition(", at price ")[0] for line in told if line != "nobody"] == [
            f"{change.client}: {change.width:g} to {change.then:g}" for change in changes
        ]


@SIZES
@pytest.mark.parametrize("size", ["few", "many"])
def test_by_keys_alone(opened, size: str, width: int, request: pytest.FixtureRequest) -> None:
    found = request.getfixturevalue(size)
    page, last = opened(found, width), len(found.budgets) - 1
    assert page.get("document.getElementById('slider').labels[0].innerText").startswith("Budget")
    page.press("Tab")
    assert page.get("document.activeElement.id") == "slider"
    check(page, found, last // 2)
    page.press("Home")
    check(page, found, 0)
    page.press("ArrowRight", 7)
    check(page, found, 7)
    page.press("End")
    check(page, found, last)
    page.press("ArrowLeft", 11)
    check(page, found, last - 11)
    page.press("PageDown")
    at = int(page.get("document.getElementById('slider').value"))
    assert at < last - 12
    check(page, found, at)


@SIZES
def test_by_mouse_or_finger(opened, many: hasa.Frontier, width: int) -> None:
    page, last = opened(many, width), len(many.budgets) - 1
    place = page.box("#slider")
    middle = place["top"] + place["height"] / 2
    if width < 600:
        page.tap(place["left"] + 0.25 * place["width"], middle)
    else:
        page.drag(
            (place["left"] + 0.5 * place["width"], middle),
            (place["left"] + 0.25 * place["width"], middle),
        )
    at = int(page.get("document.getElementById('slider').value"))
    assert at == pytest.approx(0.25 * last, abs=0.03 * last)
    check(page, many, at)


@SIZES
def test_a_client_is_found_and_followed(opened, many: hasa.Frontier, width: int) -> None:
    page = opened(many, width)
    page.press("Tab", 2)
    assert page.get("document.activeElement.id") == "find"
    page.type("device-0012")
    half = many.allocations[(len(many.budgets) - 1) // 2]
    assert page.text("#found li") == [
        f"device-{row:05d}: {half.options[row]}" for row in range(120, 130)
    ]
    page.get("document.getElementById('slider').focus()")
    page.press("End")
    assert page.text("#found li")[3] == f"device-00123: {many.allocations[-1].options[123]}"
    page.get("document.getElementById('find').select()")
    page.type("device")
    assert page.text("#found li")[-1] == "and 9,980 more"


@SIZES
def test_who_does_not_fit_in_is_counted(
    opened, many: hasa.Frontier, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hasa_opt.solving.page.MOST_BYTES", 500_000)
    page = opened(many, width)
    assert "too many to be named" in page.text("#about")[0]
    assert not page.get("document.getElementById('find').checkVisibility()")
    page.press("Tab")
    page.press("Home")
    page.press("ArrowRight", 3)
    check(page, many, 3)


@SIZES
def test_another_limit_and_options_without_widths(opened, width: int) -> None:
    menu = hasa.Menu(["skip", "light", "full"], costs={"joules": [0, 3, 7]}, per="client")
    worth = np.sort(np.random.default_rng(0).random((6, 3)), axis=1)
    problem = hasa.AllocationProblem.build(
        hasa.Clients(np.arange(1, 7)), menu=menu, utility=hasa.utility.measured(worth),
        constraints=[hasa.Budget("joules", 30), hasa.Quota({"full": 3})],
    )  # fmt: skip
    found = hasa.frontier(problem, [1, 2, 3], over="Quota")
    page = opened(found, width)
    page.press("Tab")
    for at, key in ((0, "Home"), (2, "End")):
        page.press(key)
        own = found.allocations[at]
        shown = page.text("label[for=slider], #value")
        assert [text.strip() for text in shown] == ["Quota:", str(at + 1)]
        assert page.text("#bars .value") == own.options.tolist()
        assert number(page.text("#price")[0]) == pytest.approx(found.prices[at], rel=1e-3)
        assert page.text("#limits td")[6] == str(at + 1)
    assert not page.get("document.getElementById('next').checkVisibility()")


def test_a_single_budget(opened, few: hasa.Frontier) -> None:
    problem = few.allocations[0].problem
    page = opened(hasa.frontier(problem, [0.5]), 1280)
    page.press("Tab")
    page.press("ArrowRight")
    assert page.text("#value") == ["0.5"]
    assert page.text("#changed") == ["-"]


@SIZES
def test_it_is_dark_where_that_is_asked_for(opened, few: hasa.Frontier, width: int) -> None:
    page = opened(few, width)
    colour = "getComputedStyle(document.body).backgroundColor"
    assert page.get(colour) == "rgb(255, 255, 255)"
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    page.call("Emulation.setEmulatedMedia", features=dark)
    assert page.get(colour) == "rgb(22, 25, 28)"
    page.call("Emulation.setEmulatedMedia", features=[])
