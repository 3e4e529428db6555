"""Random numbers hang on names: who joins, leaves or changes places moves nobody else's batches."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import TIMES

from hasa_opt import Clients, tasks
from hasa_opt._utils.streams import client_number
from hasa_opt.errors import InputError
from hasa_opt.federated import (
    ENGINES,
    Checkpoint,
    Execution,
    Faults,
    History,
    Participation,
    Subnets,
    run,
)
from hasa_opt.federated.participation import draw_clients
from hasa_opt.forecast.warm_up import halves
from hasa_opt.models import MLP, fresh
from hasa_opt.policies import POLICIES, Setting
from hasa_opt.policies.setting import MENU
from hasa_opt.tasks import Split, Task, digits, domains

torch.set_num_threads(1)
NAMES = ("ada", "bob", "cyd", "dan", "eve")
SIZES = dict(zip(NAMES, (20, 9, 14, 25, 11), strict=True))
MANY_NAMES = st.lists(
    st.text("abcdef", min_size=1, max_size=6), min_size=len(MENU), max_size=30, unique=True
)
WIDTHS = dict(zip(NAMES, (0.5, 1.0, 0.5, 0.25, 0.5), strict=True))


def split(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (n,), generator=generator)
    return Split(torch.randn(n, 6, generator=generator) + targets[:, None], targets)


def task_of(names: tuple[str, ...]) -> Task:
    """Each client has the same samples, whoever else is there."""
    parts = [
        tuple(split(SIZES[name] // share + 1, 10 * NAMES.index(name) + share) for name in names)
        for share in (1, 4, 3)
    ]
    counts = np.ones((len(names), 3), dtype=np.int64)
    return Task("toy", names, *parts, counts=counts, n_outputs=3)


def train(names: tuple[str, ...], scheme: str = "prefix", **options: object) -> History:
    model = fresh(MLP(6, 3, hidden=(8, 6)), seed=1)
    subnets = Subnets([WIDTHS[name] for name in names], scheme)
    return run(model, task_of(names), subnets, **{"rounds": 2, "seed": 3, **options})


def told(history: History, names: tuple[str, ...]) -> list[tuple[int, str, str, str]]:
    """What went wrong with whom."""
    single = (event for event in history.events if event.client is not None)
    return sorted((event.round, names[event.client], event.kind, event.reason) for event in single)


def test_a_client_stands_in_keys_by_63_bits_of_a_digest_of_its_name() -> None:
    # What `printf ada | sha256sum` begins with; the last bit is left out.
    assert client_number("ada") == int("fdee430d40bd57de", 16) >> 1
    assert client_number("caf\u00e9") == client_number("cafe\u0301 ")


@pytest.mark.fuzz
@settings(max_examples=3 * TIMES, deadline=None)
@given(
    order=st.permutations(NAMES),
    scheme=st.sampled_from(["prefix", "random", "ordered_dropout"]),
    engine=st.sampled_from(sorted(ENGINES)),
    drawn=st.sampled_from([None, 2]),
)
@pytest.mark.filterwarnings("ignore")
def test_the_order_of_clients_changes_nothing(
    order: list[str], scheme: str, engine: str, drawn: int | None
) -> None:
    options = {
        "participation": Participation(clients_per_round=drawn, faults=Faults(0.2, 0.1, 0.2)),
        "execution": Execution(engine=engine),
    }
    plain, moved = train(NAMES, scheme, **options), train(tuple(order), scheme, **options)
    rows = [order.index(name) for name in NAMES]
    for column in ("train_loss", "test_loss", "mean_width"):
        there = getattr(moved, column)[:, rows]
        np.testing.assert_allclose(there, getattr(plain, column), rtol=1e-5, atol=1e-6)
    assert (moved.flops[:, rows] == plain.flops).all()
    assert told(moved, tuple(order)) == told(plain, NAMES)
    for name, tensor in plain.weights.items():
        torch.testing.assert_close(moved.weights[name], tensor, rtol=0, atol=1e-6)


@pytest.mark.fuzz
@settings(max_examples=3 * TIMES, deadline=None)
@given(stay=st.sets(st.sampled_from(NAMES), min_size=1, max_size=4))
def test_who_joins_moves_nobodys_batches(stay: set[str]) -> None:
    """In the first round all start from the same weights, so that losses are alike to the bit."""
    few = tuple(name for name in NAMES if name in stay)
    alone, together = train(few, rounds=1), train(NAMES, rounds=1)
    rows = [NAMES.index(name) for name in few]
    np.testing.assert_array_equal(alone.train_loss, together.train_loss[:, rows])


@given(names=MANY_NAMES, number=st.integers(0, 10**6))
def test_who_joins_takes_the_place_of_one_drawn_client_at_most(
    names: list[str], number: int
) -> None:
    few, all_ = (np.array([client_number(name) for name in part]) for part in (names[:-1], names))
    before = set(draw_clients(few, 2, (7, number)).tolist())
    after = set(draw_clients(all_, 2, (7, number)).tolist())
    assert len(before - after) <= 1
    assert after - before <= {len(names) - 1}
    mirrored = len(names) - 1 - draw_clients(all_[::-1], 2, (7, number))
    assert set(mirrored.tolist()) == after


def drawn_widths(policy: str, names: Sequence[str], seed: int) -> dict[str, float]:
    """Widths of clients of equal size."""
    setting = Setting(Clients([10] * len(names), names=names), np.zeros(len(names)), 0.5, seed=seed)
    return dict(zip(names, POLICIES[policy](setting).tolist(), strict=True))


@pytest.mark.parametrize("policy", ["random", "heterofl"])
@pytest.mark.fuzz
@settings(max_examples=8 * TIMES)
@given(order=st.permutations(NAMES), seed=st.integers(0, 10**6))
def test_widths_that_a_policy_draws_hang_on_names(policy: str, order: list[str], seed: int) -> None:
    assert drawn_widths(policy, order, seed) == pytest.approx(drawn_widths(policy, NAMES, seed))


@pytest.mark.fuzz
@settings(max_examples=20 * TIMES)
@given(names=MANY_NAMES)
def test_who_joins_moves_one_client_past_each_end_of_a_tier_at_most(names: list[str]) -> None:
    def tiers(part: list[str]) -> dict[str, int]:
        """Which of the widths, however they are scaled to the budget."""
        widths = drawn_widths("heterofl", part, 3)
        return {name: len({w for w in widths.values() if w < own}) for name, own in widths.items()}

    few, together = tiers(names[:-1]), tiers(names)
    assert sum(few[name] != together[name] for name in few) < len(MENU)


@pytest.mark.fuzz
@settings(max_examples=5 * TIMES, deadline=None)
@given(order=st.permutations(NAMES), seed=st.integers(0, 99))
def test_halves_of_a_probe_hang_on_names(order: list[str], seed: int) -> None:
    plain, moved = halves(task_of(NAMES), seed), halves(task_of(tuple(order)), seed)
    for here, there in zip(plain, moved, strict=True):
        for row, name in enumerate(NAMES):
            assert torch.equal(here[row].inputs, there[order.index(name)].inputs)


@pytest.mark.fuzz
@settings(
    max_examples=5 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(order=st.permutations(["x", "y", "z"]), extra=st.booleans())
def test_splits_of_texts_hang_on_names(tmp_path: Path, order: list[str], extra: bool) -> None:
    def load(names: list[str]) -> Task:
        path = tmp_path / "texts.csv"
        with path.open("w", newline="") as file:
            out = csv.writer(file)
            out.writerow(("who", "what"))
            for name in names:
                out.writerows((name, f"{name} text{n} word{n % 5}") for n in range(20))
        return tasks.text_csv(path, text="what", client="who", min_count=1)

    def held(task: Task, name: str) -> list[tuple[str, ...]]:
        row = task.client_names.index(name)
        words = [task.labels[token] for token in task.test[row].inputs.flatten().tolist()]
        return sorted(word for word in words if word.startswith("text"))

    plain, moved = load(["x", "y", "z"]), load([*order, *["new"] * extra])
    for name in ("x", "y", "z"):
        assert held(plain, name)
        assert held(plain, name) == held(moved, name)


@pytest.mark.slow
def test_the_images_of_a_client_hang_on_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scans and prints are dealt out in the order of those who share them, and that alone."""

    def both() -> list[dict[str, Split]]:
        made = tasks.load("digits"), tasks.load("domains")
        return [dict(zip(task.client_names, task.train, strict=True)) for task in made]

    before = both()
    monkeypatch.setattr(digits, "_CLIENTS", digits._CLIENTS[5:] + digits._CLIENTS[:5])
    monkeypatch.setattr(domains, "_TRAIN", dict(reversed(domains._TRAIN.items())))
    for plain, moved in zip(before, both(), strict=True):
        assert list(plain) != list(moved)
        for name, split in plain.items():
            assert torch.equal(split.inputs, moved[name].inputs)
            assert torch.equal(split.targets, moved[name].targets)


def test_a_checkpoint_of_before_is_of_an_older_version(tmp_path: Path) -> None:
    train(NAMES, rounds=1, checkpoint=tmp_path)
    last = tmp_path / "round-000001"
    found = History.load(last)
    before = {key: value for key, value in found.metadata.items() if key != "streams"}
    replace(found, metadata=before).save(last)
    words = r"by an older version of hasa_opt, which draws other random numbers .*begin it anew"
    with pytest.raises(InputError, match=words):
        train(NAMES, rounds=2, checkpoint=Checkpoint(tmp_path, resume=True))
    assert History.load(last).rounds == 1, "it can still be read"
