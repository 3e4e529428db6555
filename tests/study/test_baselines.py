"""Baselines as their authors meant them: the same as a plain loop over a masked network."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from hasa_opt._utils.streams import client_numbers
from hasa_opt.errors import InputError
from hasa_opt.federated import Evaluation, Execution, LocalTraining, Server
from hasa_opt.federated.units import SCHEMES, find_draw
from hasa_opt.models import MLP, fresh
from hasa_opt.policies import read_policy
from hasa_opt.study import Study
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)
SIZES = (30, 20, 10)
UNITS, CLASSES, ROUNDS, SEED, RATE = 10, 3, 4, 3, 0.5
MODEL = MLP(5, CLASSES, hidden=(UNITS,))
CONTRARY = {"heterofl": "supernet", "fjord": "supernet"}
Weights = dict[str, Tensor]


def samples(size: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 5, generator=generator)
    return Split(inputs, torch.randint(0, CLASSES, (size,), generator=generator))


def three() -> Task:
    parts = [
        [samples(size, 10 * part + row) for row, size in enumerate(SIZES)] for part in range(3)
    ]
    counts = np.array([np.bincount(own.targets, minlength=CLASSES) for own in parts[0]])
    return Task("three", tuple("abc"), *parts, counts, CLASSES)


def study(*policies: str, on: str = "subnet", rounds: int = ROUNDS, **training: object) -> Study:
    """One full batch a round, plain SGD, so that a loop needs no order of samples."""
    given = LocalTraining(
        batch_size=100,
        learning_rate=RATE,
        optimizer=torch.optim.SGD,  # type: ignore[arg-type]
        **training,  # type: ignore[arg-type]
    )
    return Study(
        three(), MODEL, policies=policies, seeds=(SEED,), rounds=rounds, budget=0.5,
        training=given, server=Server(aggregation="full"), evaluation=Evaluation(on=on),  # type: ignore[arg-type]
        execution=Execution(workers=1),
    )  # fmt: skip


def outputs(weights: Weights, inputs: Tensor, mask: Tensor, scale: float = 1.0) -> Tensor:
    hidden = linear(inputs, weights["layers.0.weight"], weights["layers.0.bias"]) / scale
    return linear(hidden.relu() * mask, weights["layers.1.weight"], weights["layers.1.bias"])


def holders(mask: Tensor) -> Weights:
    """Which coordinates a client with these hidden units holds, 0 or 1."""
    return {
        "layers.0.weight": mask[:, None].expand(UNITS, 5),
        "layers.0.bias": mask,
        "layers.1.weight": mask[None].expand(CLASSES, UNITS),
        "layers.1.bias": torch.ones(CLASSES),
    }


def trained(
    weights: Weights, split: Split, mask: Tensor, scale: float = 1.0, pull: float = 0.0,
    towards: Weights | None = None,
) -> Weights:  # fmt: skip
    """One step of SGD on the masked network, perhaps pulled towards other weights."""
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in weights.items()}
    loss = cross_entropy(outputs(leaves, split.inputs, mask, scale), split.targets)
    for name, other in (towards or {}).items():
        loss = loss + pull / 2 * ((leaves[name] - other) * holders(mask)[name]).square().sum()
    loss.backward()
    return {name: (leaf - RATE * leaf.grad).detach() for name, leaf in leaves.items()}


def averaged(server: Weights, sent: list[tuple[int, Weights, Weights]]) -> Weights:
    """Mean of each coordinate over those who hold it, weighted by samples."""
    found = {}
    for name, before in server.items():
        total = sum(size * held[name] for size, held, _ in sent)
        sums = sum(size * held[name] * new[name] for size, held, new in sent)
        found[name] = torch.where(total > 0, sums / total.clamp(min=1), before)
    return found


def accuracy(weights: Weights, split: Split, mask: Tensor) -> float:
    return float((outputs(weights, split.inputs, mask).argmax(1) == split.targets).float().mean())


def prefix_mask(width: float) -> Tensor:
    return (torch.arange(UNITS) < round(width * UNITS)).float()


def mask_of(name: str, width: float, key: tuple[int, int, int]) -> Tensor:
    if name == "fedrolex":
        ahead = (torch.arange(UNITS) - key[1]) % UNITS
        return (ahead < round(width * UNITS)).float()
    if name == "federated_dropout":
        mask = torch.zeros(UNITS)
        mask[SCHEMES["random"](MODEL, width, key)["hidden0"]] = 1
        return mask
    return prefix_mask(width)


def start() -> Weights:
    return {name: tensor.clone() for name, tensor in fresh(MODEL, SEED).state_dict().items()}


def keys(number: int) -> list[tuple[int, int, int]]:
    return [(SEED, number, int(client)) for client in client_numbers(tuple("abc"))]


@pytest.mark.parametrize("name", ["heterofl", "fedrolex", "federated_dropout", "fjord"])
def test_a_baseline_is_its_whole_method_whatever_the_study_says(name: str) -> None:
    asked = study(name, on=CONTRARY.get(name, "subnet"))
    (outcome,) = asked.run(compare_solvers=False).outcomes
    task, server, subnets = three(), start(), asked.subnets(name, SEED)
    for number in range(ROUNDS):
        now, sent = subnets.during(number, ROUNDS), []
        for row, key in enumerate(keys(number)):
            width = float(now.widths[row])
            held = mask_of(name, width, key)
            mask, scale = held, width if name == "heterofl" else 1.0
            if name == "fjord":
                draw = find_draw(MODEL, "ordered_dropout", float(now.mean_widths[row]))
                mask = prefix_mask(next(islice(draw(width, key), 1)))
            new = trained(server, task.train[row], mask, scale)
            sent.append((SIZES[row], holders(held), new))
        server = averaged(server, sent)
    for weight, tensor in server.items():
        torch.testing.assert_close(outcome.history.weights[weight], tensor, msg=f"{name} {weight}")
    whole = name in ("fedrolex", "federated_dropout")
    masks = [torch.ones(UNITS) if whole else prefix_mask(width) for width in now.widths]
    expected = [accuracy(server, task.test[row], masks[row]) for row in range(3)]
    np.testing.assert_allclose(outcome.own, expected)
    np.testing.assert_array_equal(outcome.widths, np.ones(3) if whole else now.widths)
    everywhere = [accuracy(server, split, torch.ones(UNITS)) for split in task.test]
    np.testing.assert_allclose(outcome.supernet, everywhere, err_msg="what is deployed, or not")


def test_what_overrides_a_method_shows_in_the_name() -> None:
    done = study("fedrolex", "fedrolex+subnet", "fedrolex+personal", "heterofl", "heterofl+full")
    assert "fedrolex (selective, uncut)" in done.description["Of their own"]
    done = done.run(compare_solvers=False)
    mine, subnet, personal, tiers, full = done.outcomes
    assert done.results.policies[-1] == "heterofl+full"
    some = "layers.0.weight"
    assert not torch.equal(full.history.weights[some], tiers.history.weights[some])
    assert torch.equal(subnet.history.weights[some], mine.history.weights[some])
    assert personal.history is mine.history, "trained once"
    assert [bool((own.widths == 1).all()) for own in done.outcomes[:3]] == [True, False, False]
    with pytest.raises(InputError, match=r"option 'subnet' of .* overrides another one"):
        read_policy("fedrolex+uncut+subnet")


def test_those_left_out_and_those_at_the_smallest_cap_run_in_a_study() -> None:
    asked = replace(study("exclude", "smallest"), max_width=(1.0, 0.3, 1.0))
    excluded, smallest = asked.run(compare_solvers=False).outcomes
    assert (excluded.history.flops.sum(axis=0) > 0).tolist() == [True, False, True]
    np.testing.assert_allclose(smallest.history.widths, 0.3)
    assert np.isfinite([excluded.own, smallest.own]).all()


def test_ditto_takes_turns_and_pulls_each_own_model_to_the_newest_common_one() -> None:
    asked = study("uniform", "ditto", "ditto+ditto^0.2", rounds=5)
    uniform, ditto, weaker = asked.run(compare_solvers=False).outcomes
    task, widths = three(), asked.subnets("ditto", SEED).widths
    for outcome, pull in ((ditto, 1.0), (weaker, 0.2)):
        server, own = start(), [start() for _ in SIZES]
        for number in range(5):
            masks = [prefix_mask(width) for width in widths]
            clients = list(zip(task.train, masks, strict=True))
            if number % 2:
                if number == 1:
                    own = [server] * 3
                own = [
                    trained(mine, split, mask, pull=pull, towards=server)
                    for mine, (split, mask) in zip(own, clients, strict=True)
                ]
            else:
                new = [trained(server, *client) for client in clients]
                held = [holders(mask) for mask in masks]
                server = averaged(server, list(zip(SIZES, held, new, strict=True)))
        for name, tensor in server.items():
            torch.testing.assert_close(outcome.history.weights[name], tensor)
        for row, (mine, mask) in enumerate(zip(own, masks, strict=True)):
            kept = outcome.history.clients[f"{row}/model/layers.0.weight"]
            torch.testing.assert_close(kept, mine["layers.0.weight"][: len(kept)])
            assert outcome.own[row] == pytest.approx(accuracy(mine, task.test[row], mask))
    np.testing.assert_array_equal(ditto.history.flops, uniform.history.flops)
    assert (ditto.history.bytes_up[1::2] == 0).all(), "own models are not sent"
    assert not ditto.history.events


def test_what_ditto_cannot_have_is_refused() -> None:
    with pytest.raises(InputError, match="ditto = -1 must be at least 0"):
        LocalTraining(ditto=-1)
    with pytest.raises(InputError, match="its output bias included"):
        LocalTraining(ditto=1, output_bias="local")


KINDS = 2


def test_a_model_for_each_group_that_is_found() -> None:
    """Two kinds of clients whose labels are told by opposite inputs: only the updates differ."""

    def of(row: int, size: int) -> Split:
        generator = torch.Generator().manual_seed(row + size)
        inputs = torch.randn(size, 5, generator=generator)
        sign = 1 if row < 3 else -1
        return Split(inputs, (sign * inputs[:, 0] > 0).long())

    parts = [[of(row, size) for row in range(6)] for size in (200, 20, 50)]
    counts = np.tile([100, 100], (6, 1))
    task = Task("opposite", tuple("abcdef"), *parts, counts, KINDS)
    asked = Study(
        task, MLP(5, KINDS, hidden=(UNITS,)), policies=("uniform", "clustered_found"),
        seeds=(SEED,), rounds=15, training=LocalTraining(learning_rate=0.02),
        execution=Execution(workers=1),
    )  # fmt: skip
    uniform, found = asked.run(compare_solvers=False).outcomes
    (first, then) = found.history.decisions
    number = then.round
    assert first.subnets.models is None
    assert then.subnets.models.tolist() == [0, 0, 0, 1, 1, 1]
    assert "2 groups" in found.reason
    same = slice(0, number)
    np.testing.assert_array_equal(
        found.history.train_loss[same], uniform.history.train_loss[same], "shared until then"
    )
    np.testing.assert_array_equal(found.history.flops, uniform.history.flops)
    assert found.own.mean() > 0.9 > uniform.own.mean() + 0.2


def test_local_trains_each_client_alone_from_the_common_start() -> None:
    asked = study("local")
    (outcome,) = asked.run(compare_solvers=False).outcomes
    task, masks = three(), [prefix_mask(width) for width in asked.subnets("local", SEED).widths]
    for row, mask in enumerate(masks):
        mine = start()
        for _ in range(ROUNDS):
            mine = trained(mine, task.train[row], mask)
        assert outcome.own[row] == pytest.approx(accuracy(mine, task.test[row], mask))
        for name, tensor in mine.items():
            torch.testing.assert_close(outcome.history.clients[f"own/{row}/{name}"], tensor)
    assert outcome.history.bytes_up.sum() == 0
