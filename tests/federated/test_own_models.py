"""Models of groups and of single clients: the same as training each group by itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from hasa_opt.errors import InputError
from hasa_opt.federated import Evaluation, Execution, Participation, Server, Subnets, run
from hasa_opt.federated.settings import Checkpoint, LocalTraining
from hasa_opt.models import CNN, MLP, fresh
from hasa_opt.models.traced import Supernet
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)
WIDTHS = np.array([0.5, 0.5, 0.25, 0.75, 0.5])
MODELS = np.array([4, 7, 4, 7, 9])
ALONE = np.arange(5)


def images(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(n, 1, 4, 4, generator=generator)
    return Split(inputs, torch.randint(0, 3, (n,), generator=generator))


def task_of(rows=range(5)) -> Task:
    parts = [[images(20 + 3 * row, 10 * part + row) for row in map(int, rows)] for part in range(3)]
    names = tuple("abcde"[int(row)] for row in rows)
    return Task("toy", names, *parts, np.ones((len(names), 3), dtype=int), 3)


def flattened(task: Task) -> Task:
    parts = {
        part: [Split(split.inputs.flatten(1), split.targets) for split in getattr(task, part)]
        for part in ("train", "validation", "test")
    }
    return replace(task, **parts)


def cnn() -> CNN:
    return fresh(CNN(3, channels=(8, 16), image_size=4), 0)


@pytest.mark.parametrize("engine", ["sequential", "batched"])
@pytest.mark.parametrize("aggregation", ["full", "selective"])
@pytest.mark.parametrize("models", [MODELS, ALONE])
def test_groups_train_as_if_there_were_no_others(engine, aggregation, models):
    how = {
        "rounds": 4,
        "server": Server(aggregation=aggregation),
        "evaluation": Evaluation(also=("personal", "supernet")),
        "training": LocalTraining(output_bias="local", proximal=0.01),
        "seed": 3,
    }
    subnets = Subnets(WIDTHS, models=models)
    found = run(cnn(), task_of(), subnets, execution=Execution(engine=engine), **how)
    for number in np.unique(models):
        rows = np.flatnonzero(models == number)
        alone = run(cnn(), task_of(rows), WIDTHS[rows], **how)
        for column in ("train_loss", "test_loss", "personal_metric", "supernet_metric", "flops"):
            mine = getattr(found, column)[:, rows]
            np.testing.assert_allclose(mine, getattr(alone, column), rtol=1e-5, err_msg=column)
        for name, weights in alone.weights.items():
            if name not in ("linear.bias", "output.bias"):
                own = found.clients[f"own/{number}/{name}"]
                torch.testing.assert_close(own, weights, rtol=1e-4, atol=1e-6)
    same = zip(cnn().state_dict().values(), found.weights.values(), strict=True)
    assert all(torch.equal(before, after) for before, after in same)
    assert not found.events


def test_nothing_is_sent_by_whom_nobody_shares_a_model_with():
    common = run(cnn(), task_of(), WIDTHS, rounds=3)
    grouped = run(cnn(), task_of(), Subnets(WIDTHS, models=MODELS), rounds=3)
    alone = MODELS == 9
    np.testing.assert_array_equal(grouped.bytes_up[:, ~alone], common.bytes_up[:, ~alone])
    np.testing.assert_array_equal(grouped.bytes_down[:, ~alone], common.bytes_down[:, ~alone])
    assert grouped.bytes_up[:, alone].sum() == 0
    np.testing.assert_array_equal(grouped.bytes_down[0], common.bytes_down[0])
    assert grouped.bytes_down[1:, alone].sum() == 0


def test_who_is_alone_receives_the_supernet_again_where_its_width_grows():
    wider = Subnets(np.full(5, 0.75), models=ALONE)
    subnets = Subnets(np.full(5, 0.5), models=ALONE, later=wider, later_share=np.full(5, 0.5))
    found = run(cnn(), task_of(), subnets, rounds=4)
    common = run(cnn(), task_of(), np.full(5, 0.75), rounds=1)
    assert (found.bytes_down > 0).all(axis=1).tolist() == [True, False, True, False]
    np.testing.assert_array_equal(found.bytes_down[2], common.bytes_down[0])


def test_what_server_and_devices_keep_is_counted():
    how = {"rounds": 2, "evaluation": Evaluation(also=("personal",))}
    common = run(cnn(), task_of(), WIDTHS, **how)
    whole = sum(tensor.nbytes for tensor in cnn().state_dict().values())
    subnets = common.bytes_down[0]
    assert common.server_bytes == whole
    assert common.device_bytes().tolist() == [0] * 5
    assert common.device_bytes(personal=True).tolist() == subnets.tolist()
    grouped = run(cnn(), task_of(), Subnets(WIDTHS, models=MODELS), **how)
    assert grouped.server_bytes == 2 * whole, "the third has its model to itself"
    assert grouped.device_bytes().tolist() == np.where(MODELS == 9, subnets, 0).tolist()
    alone = run(cnn(), task_of(), Subnets(WIDTHS, models=ALONE), **how)
    assert alone.server_bytes == whole
    assert alone.device_bytes().tolist() == subnets.tolist()
    bias = run(cnn(), task_of(), WIDTHS, rounds=1, training=LocalTraining(output_bias="local"))
    assert bias.device_bytes().tolist() == [4 * 3] * 5


def killed_and_resumed(place, subnets, **how):
    """A run of six rounds that ends after the fourth, and goes on."""

    def stop(number, row):
        if number == 3:
            raise RuntimeError("the power is gone")

    how |= {"rounds": 6, "checkpoint": Checkpoint(place, resume=True)}
    with pytest.raises(RuntimeError, match="power"):
        run(cnn(), task_of(), subnets, on_round=stop, **how)
    return run(cnn(), task_of(), subnets, **how)


def test_a_run_with_models_of_groups_goes_on_to_the_same_bits(tmp_path):
    subnets = Subnets(WIDTHS, models=MODELS)
    how = {"participation": Participation(clients_per_round=2), "seed": 5}
    whole = run(cnn(), task_of(), subnets, rounds=6, **how)
    resumed = killed_and_resumed(tmp_path, subnets, **how)
    for column in ("train_loss", "test_metric", "bytes_down", "bytes_up"):
        np.testing.assert_array_equal(getattr(resumed, column), getattr(whole, column))
    assert resumed.clients.keys() == whole.clients.keys()
    for name, tensor in whole.clients.items():
        assert torch.equal(resumed.clients[name], tensor)


def test_later_subnets_begin_in_the_rounds_that_they_say():
    first = Subnets(np.full(5, 0.5), later=Subnets(np.full(5, 0.75)), later_share=np.full(5, 0.4))
    found = run(cnn(), task_of(), first, rounds=5, seed=1)
    narrow = run(cnn(), task_of(), np.full(5, 0.5), rounds=3, seed=1)
    np.testing.assert_array_equal(found.test_loss[:3], narrow.test_loss)
    np.testing.assert_allclose(found.mean_width[:3], narrow.mean_width)
    np.testing.assert_allclose(found.mean_width[3:], 0.75)
    assert found.widths.tolist() == [0.75] * 5


def test_a_run_with_later_subnets_goes_on_to_the_same_bits(tmp_path):
    shares = np.array([0.5, 0.5, 0, 0.2, 1])
    subnets = Subnets(WIDTHS, later=Subnets(WIDTHS + 0.125), later_share=shares)
    whole = run(cnn(), task_of(), subnets, rounds=6)
    resumed = killed_and_resumed(tmp_path, subnets)
    np.testing.assert_array_equal(resumed.test_loss, whole.test_loss)
    other = replace(subnets, later_share=shares / 2)
    stored = Checkpoint(tmp_path, resume=True)
    with pytest.raises(InputError, match="later_share"):
        run(cnn(), task_of(), other, rounds=6, checkpoint=stored)


def test_what_models_of_groups_cannot_have_is_refused():
    subnets = Subnets(WIDTHS, models=MODELS)
    stepped = Server(optimizer=partial(torch.optim.SGD, lr=1.0))
    with pytest.raises(InputError, match="leave Server"):
        run(cnn(), task_of(), subnets, rounds=1, server=stepped)
    layers = nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    normalised = Supernet(nn.Sequential(*layers), torch.randn(2, 16))
    with pytest.raises(InputError, match="GroupNorm"):
        run(normalised, flattened(task_of()), subnets, rounds=1)
    with pytest.raises(InputError, match=r"row 1 has 0\.5: give whole numbers"):
        Subnets(WIDTHS, models=[0, 0.5, 1, 1, 1])
    with pytest.raises(InputError, match="models"):
        Subnets(WIDTHS[:4], models=MODELS)
    with pytest.raises(InputError, match="need each other"):
        Subnets(WIDTHS, later_share=np.ones(5))
    with pytest.raises(InputError, match=r"row 2 has 1\.5"):
        Subnets(WIDTHS, later=Subnets(WIDTHS), later_share=[0, 0, 1.5, 0, 0])
    with pytest.raises(InputError, match="nothing later"):
        Subnets(WIDTHS, later=Subnets(WIDTHS, "rolling"), later_share=np.ones(5))


def test_an_mlp_of_each_client():
    """Training alone is a plain loop for each client."""
    found = run(
        fresh(MLP(16, 3, hidden=(8,)), 2),
        flattened(task_of()),
        Subnets(WIDTHS, models=ALONE),
        rounds=8,
    )
    assert np.all(found.train_loss[-1] < found.train_loss[0])


DITTO = {
    "training": LocalTraining(ditto=0.5),
    "evaluation": Evaluation(on="personal", interpolation=1.0),
    "seed": 3,
}


def test_engines_agree_on_own_models_that_are_pulled_and_say_who_was_alone():
    one, many = (
        run(cnn(), task_of(), WIDTHS, rounds=4, execution=Execution(engine=engine), **DITTO)
        for engine in ("sequential", "batched")
    )
    np.testing.assert_allclose(many.test_loss, one.test_loss, rtol=1e-4)
    assert sum(many.metadata["trained alone"].values()) > 0
    assert "each client trains a model of its own" in many.metadata["trained alone"]


def test_a_run_with_models_that_are_pulled_goes_on_to_the_same_bits(tmp_path):
    whole = run(cnn(), task_of(), WIDTHS, rounds=6, **DITTO)
    resumed = killed_and_resumed(tmp_path, WIDTHS, **DITTO)
    np.testing.assert_array_equal(resumed.test_loss, whole.test_loss)
    assert resumed.clients.keys() == whole.clients.keys()
    assert all(torch.equal(resumed.clients[name], whole.clients[name]) for name in whole.clients)


@pytest.mark.parametrize("scheme", ["prefix", "rolling", "random"])
def test_models_that_are_pulled_may_change_their_units(scheme):
    later = Subnets(WIDTHS + 0.25, scheme=scheme)
    wider = Subnets(WIDTHS, scheme=scheme, later=later, later_share=np.full(5, 0.5))
    found = run(cnn(), task_of(), wider, rounds=4, **DITTO)
    assert np.isfinite([found.test_loss, found.train_loss]).all()
    assert not found.events
    held = [found.clients[f"{row}/units/channels1"] for row in range(5)]
    assert [len(units) / 8 for units in held] == (WIDTHS + 0.25).tolist()
