"""Blocks: groups of clients with units of their own inside one supernet."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import key_of
from torch import nn

from hasa_opt.errors import InputError
from hasa_opt.federated import (
    Evaluation,
    Execution,
    History,
    LocalTraining,
    Server,
    Subnets,
    Update,
    aggregate,
    evaluate,
    local_train,
    run,
)
from hasa_opt.federated.settings import Checkpoint
from hasa_opt.models import (
    CNN,
    MLP,
    GRULanguageModel,
    LSTMLanguageModel,
    ResNet,
    TransformerLanguageModel,
    block,
    extract,
    fresh,
    prefix,
)
from hasa_opt.models.traced import Supernet
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


def images(n: int, seed: int) -> Split:
    flat = features(n, seed)
    return Split(flat.inputs[:, :4].reshape(n, 1, 2, 2).repeat(1, 1, 2, 2), flat.targets)


def sentences(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, 11, (n, 6), generator=generator)
    return Split(tokens[:, :-1], tokens[:, 1:])


def task_of(make=features) -> Task:
    parts = [[make(20 + 3 * row, 10 * part + row) for row in range(4)] for part in range(3)]
    n_outputs = 11 if make is sentences else 3
    return Task("toy", tuple(NAMES), *parts, np.ones((4, n_outputs), dtype=int), n_outputs)


def mlp() -> MLP:
    return fresh(MLP(6, 3, hidden=(10, 7)), 1)


def plain() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 10), nn.ReLU(), nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 3))


FAMILIES = {
    "mlp": (features, mlp),
    "cnn": (images, lambda: fresh(CNN(3, channels=(4, 8), image_size=4), 0)),
    "lstm": (sentences, lambda: fresh(LSTMLanguageModel(11, embedding=6, hidden=8), 0)),
    "gru": (sentences, lambda: fresh(GRULanguageModel(11, embedding=6, hidden=8), 0)),
    "transformer": (
        sentences,
        lambda: fresh(TransformerLanguageModel(11, embedding=8, heads=2, hidden=8, layers=1), 0),
    ),
    "resnet": (images, lambda: fresh(ResNet(3, channels=(4, 8), blocks=1), 0)),
    "traced": (features, lambda: Supernet(plain(), torch.randn(2, 6))),
}


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


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("engine", ["sequential", "batched"])
def test_a_run_is_the_loop_written_out(family, engine):
    make, build = FAMILIES[family]
    task, supernet = task_of(make), build()
    history = run(
        supernet,
        task,
        Subnets(WIDTHS, starts=STARTS),
        rounds=2,
        seed=5,
        server=SELECTIVE,
        execution=Execution(engine=engine),
    )
    server = copy.deepcopy(supernet)
    for number in range(2):
        updates = []
        for name, width, start, split in zip(NAMES, WIDTHS, STARTS, task.train, strict=True):
            kept = block(server, width, start)
            subnet = extract(server, width, kept)
            local_train(subnet, split, LocalTraining(), key_of(5, number, name))
            updates.append(Update(width, len(split), subnet.state_dict(), kept))
        server.load_state_dict(aggregate(server, updates, "selective"))
    for name, tensor in server.state_dict().items():
        torch.testing.assert_close(history.weights[name], tensor, rtol=1e-4, atol=1e-5)
    for row, (width, start) in enumerate(zip(WIDTHS, STARTS, strict=True)):
        subnet = extract(server, width, block(server, width, start))
        expected = evaluate(subnet, task.test[row])
        assert history.test_loss[-1, row] == pytest.approx(expected.loss, rel=1e-3)


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
