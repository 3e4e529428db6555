"""Blocks: groups of clients with units of their own inside one supernet."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hasa_opt.errors import InputError
from hasa_opt.federated import (
    Evaluation,
    History,
    Server,
    Subnets,
    run,
)
from hasa_opt.federated.settings import Checkpoint
from hasa_opt.models import (
    MLP,
    block,
    fresh,
    prefix,
)
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)
NAMES = "abcd"
WIDTHS = np.array([0.5, 0.5, 0.4, 0.4])
STARTS = np.array([0.0, 0.5, 0.0, 0.6])
SELECTIVE = Server(aggregation="selective")


def features(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    return Split(
        torch.randn(n, 6, generator=generator), torch.randint(0, 3, (n,), generator=generator)
    )


def task_of() -> Task:
    parts = [[features(20 + 3 * row, 10 * part + row) for row in range(4)] for part in range(3)]
    return Task("toy", tuple(NAMES), *parts, np.ones((4, 3), dtype=int), 3)


def mlp() -> MLP:
    return fresh(MLP(6, 3, hidden=(10, 7)), 1)


@given(st.floats(0.05, 0.95), st.floats(0.05, 1), st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_blocks_that_are_disjoint_as_shares_share_no_unit(edge, width, size):
    model, rest = MLP(2, 2, hidden=(size, size + 3)), min(width, 1 - edge)
    left, right = block(model, edge, 0.0), block(model, rest, edge)
    for group, count in model.sizes.items():
        first, second = (set(range(count)[kept[group]]) for kept in (left, right))
        assert len(second) == model.subnet_sizes(rest)[group]
        if min(edge, rest) * count >= 1:  # a subnet keeps one unit at least
            assert not first & second
    assert block(model, width, 0.0) == prefix(model, width)


def test_halves_of_any_number_of_units_are_apart():
    for size in range(2, 40):
        model = MLP(2, 2, hidden=(size,))
        (left,), (right,) = block(model, 0.5, 0).values(), block(model, 0.5, 0.5).values()
        assert left.stop <= right.start
        assert right.stop <= size


def test_units_of_a_group_are_trained_by_it_alone():
    task, supernet = task_of(), mlp()
    subnets = Subnets([0.5, 0.5, 0.5, 0.5], starts=[0, 0.5, 0, 0.5])
    half = run(supernet, task, subnets, rounds=1, server=SELECTIVE)
    alone = run(
        supernet,
        task,
        Subnets([0.5, 0, 0.5, 0], deployed=[0.5] * 4),
        rounds=1,
        server=SELECTIVE,
    )
    inner = half.weights["layers.1.weight"]
    assert torch.equal(inner[:3, :5], alone.weights["layers.1.weight"][:3, :5])
    assert torch.equal(inner[:3, 5:], supernet.state_dict()["layers.1.weight"][:3, 5:])
    assert not torch.equal(inner[3:6, 5:], supernet.state_dict()["layers.1.weight"][3:6, 5:])


def test_starts_of_zero_are_prefixes():
    task = task_of()
    plain = run(mlp(), task, WIDTHS, rounds=1)
    zero = run(mlp(), task, Subnets(WIDTHS, starts=np.zeros(4)), rounds=1)
    assert all(torch.equal(plain.weights[name], zero.weights[name]) for name in plain.weights)


@pytest.mark.parametrize("on", ["personal", "supernet"])
def test_a_run_goes_on_from_its_checkpoint_with_the_same_bits(tmp_path, on):
    def trained(rounds: int, place: object = None) -> History:
        return run(
            mlp(),
            task_of(),
            Subnets(WIDTHS, starts=STARTS),
            rounds=rounds,
            server=SELECTIVE,
            evaluation=Evaluation(on=on),
            checkpoint=place,
        )

    trained(2, tmp_path)
    resumed, whole = trained(4, Checkpoint(tmp_path, resume=True)), trained(4)
    for name in whole.weights:
        assert torch.equal(resumed.weights[name], whole.weights[name])
    np.testing.assert_array_equal(resumed.test_loss[-1], whole.test_loss[-1])
    with pytest.raises(InputError, match=r"another run, with starts"):
        run(
            mlp(),
            task_of(),
            WIDTHS,
            rounds=4,
            server=SELECTIVE,
            evaluation=Evaluation(on=on),
            checkpoint=Checkpoint(tmp_path, resume=True),
        )


def test_full_averaging_is_refused():
    with pytest.raises(
        InputError, match=r'different blocks .* use Server\(aggregation="selective"'
    ):
        run(mlp(), task_of(), Subnets(WIDTHS, starts=STARTS), rounds=1)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"starts": [0.6, 0, 0, 0]},
            "width 0.5 and begins at 0.6: .* begin at 0.5 or before, or be 0.4 wide",
        ),
        ({"starts": [-0.1, 0, 0, 0]}, "begins at -0.1: .* begin at 0.5 or before$"),
        ({"starts": [0, 0]}, "starts"),
        ({"starts": STARTS, "scheme": "rolling"}, 'starts need the scheme "prefix"'),
    ],
)
def test_wrong_blocks_are_refused(given, words):
    with pytest.raises(InputError, match=words):
        Subnets(WIDTHS, **given)


@pytest.mark.parametrize("start", [-0.1, 0.6, "a"])
def test_a_block_beyond_the_supernet_is_refused(start):
    with pytest.raises(InputError, match="goes beyond the supernet"):
        block(mlp(), 0.5, start)
