"""No message lists more than ten names: it says how many more there are."""

from __future__ import annotations

import re
from pathlib import Path

import networkx as nx
import pytest
import torch

import hasa_opt as hasa
from hasa_opt import models, tasks
from hasa_opt._utils.checks import listed
from hasa_opt.models.subnets import check_state

MANY = 1845
NAMES = [f"name{at:04}" for at in range(MANY)]


def test_ten_names_stand_and_eleven_are_cut() -> None:
    assert listed("abcdefghij") == "a, b, c, d, e, f, g, h, i, j"
    assert listed("abcdefghijk") == "a, b, c, d, e, f, g, h, i, j and 1 more"
    assert listed([]) == ""


def test_only_what_is_shown_is_put_into_words() -> None:
    asked: list[int] = []
    text = listed(range(100_000), lambda at: asked.append(at) or f"#{at}", separator="; ", most=3)
    assert text == "#0; #1; #2 and 99997 more"
    assert asked == [0, 1, 2]


def texts_without_their_column(place: Path) -> None:
    place.write_text(",".join(NAMES) + "\n")
    tasks.text_csv(place, text="title", client=NAMES[0])


def clients_without_names(place: Path) -> None:
    place.write_text(",".join(NAMES) + "\n" + ",".join("1" * MANY) + "\n")
    hasa.Clients.read_csv(place)


def clients_without_samples(place: Path) -> None:
    place.write_text("name," + ",".join(NAMES[1:]) + "\n" + ",".join("1" * MANY) + "\n")
    hasa.Clients.read_csv(place)


def problem(*constraints: object, widths: object = (0.5, 1.0), n_clients: int = 20) -> None:
    clients = hasa.Clients([10] * n_clients, site=NAMES[:n_clients])
    built = hasa.AllocationProblem.build(
        clients,
        widths=widths,
        budget=1.0,
        utility=hasa.utility.alpha_fair(),
        constraints=constraints,
    )
    hasa.solve(built, "greedy")


def sites_without_the_limited_one(place: Path) -> None:
    tree = nx.DiGraph([("root", site) for site in NAMES])
    problem(hasa.SiteBudgets(tree, {"rome": 1}))


def a_width_that_a_long_menu_lacks(place: Path) -> None:
    problem(hasa.Fixed({0: 0.123}), widths=[at / 50 for at in range(10, 51)])


def twenty_limits_to_raise(place: Path) -> None:
    tree = nx.DiGraph([("root", site) for site in NAMES[:20]])
    problem(hasa.SiteBudgets(tree, dict.fromkeys(NAMES[:20], 1)))


def a_state_without_most_of_its_tensors(place: Path) -> None:
    model = models.MLP(6, 3, hidden=(8,) * 10)
    check_state(models.coordinates(model, 1.0), dict.fromkeys(NAMES, torch.zeros(1)))


def seeds_that_repeat(place: Path) -> None:
    task = tasks.load("digits")
    model = models.MLP.for_data(task.train[0].inputs, task.n_outputs)
    hasa.Study(task, model, seeds=[*range(50), *range(50)])


@pytest.mark.parametrize(
    ("work", "hidden"),
    [
        (texts_without_their_column, MANY - 10),
        (clients_without_names, MANY - 10),
        (clients_without_samples, MANY - 10),
        (sites_without_the_limited_one, MANY + 1 - 10),
        (a_width_that_a_long_menu_lacks, 41 - 10),
        (twenty_limits_to_raise, 20 - 10),
        (a_state_without_most_of_its_tensors, MANY - 10),
        (seeds_that_repeat, 50 - 10),
    ],
)
def test_long_lists_are_cut(work, hidden: int, tmp_path: Path) -> None:
    with pytest.raises(hasa.HasaError, match=f"and {hidden} more") as caught:
        work(tmp_path / "wide.csv")
    message = str(caught.value)
    assert len(message) < 1600
    if work is twenty_limits_to_raise:
        named = re.findall(r"name\d{4}", message)
        assert named[0] == named[1], "the limit in conflict is the first of the remedy"
    for part in re.split(r"and \d+ more", message):
        assert len(re.findall(r"\bname\d{4}", part)) <= 20
