"""Schedules of the learning rate: factors by round, what is refused, and that runs go on."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import pytest
import torch
from support.killed_runs import digest, train

from hasa_opt.errors import InputError
from hasa_opt.federated import (
    Checkpoint,
    CosineDecay,
    History,
    LocalTraining,
    Participation,
    StepDecay,
)


def test_the_cosine_rises_linearly_and_falls_to_the_least():
    decay = CosineDecay(rounds=7, warm_up=3, least=0.2)
    assert [decay(number) for number in range(3)] == pytest.approx([1 / 3, 2 / 3, 1])
    halves = [math.cos(math.pi * k / 4) for k in range(5)]
    expected = [0.2 + 0.8 * (1 + half) / 2 for half in halves]
    assert [decay(number) for number in range(3, 8)] == pytest.approx(expected)
    assert decay(3) == 1
    assert decay(100) == pytest.approx(0.2)
    assert CosineDecay(rounds=2)(2) == 0


def test_steps_multiply_once_more_from_each_round_on():
    decay = StepDecay(at=[2, 5], factor=0.5)
    assert [decay(number) for number in range(7)] == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert decay == StepDecay(at=(2, 5), factor=0.5)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (partial(CosineDecay, rounds=0), "warm_up = 0 must be from 0 to less than rounds = 0"),
        (partial(CosineDecay, rounds=3, warm_up=3), "warm_up = 3 must be"),
        (partial(CosineDecay, rounds=2.5), "rounds 2.5 must be a whole number"),
        (partial(CosineDecay, rounds=3, least=1.5), "least = 1.5 must be a share"),
        (partial(StepDecay, at=3), "at 3 is not a sequence"),
        (partial(StepDecay, at=[-1]), "at -1 must be a whole number of at least 0"),
        (partial(StepDecay, at=[1], factor=-0.1), "factor = -0.1 must be finite"),
    ],
)
def test_numbers_out_of_range_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


@pytest.mark.filterwarnings("ignore:round .* no update was left")
@pytest.mark.parametrize("factor", [math.nan, math.inf, -0.5, None, "1", torch.ones(1)])
def test_a_factor_of_no_use_ends_the_run_and_names_the_round(factor, tmp_path):
    settings = LocalTraining(schedule=lambda number: 1.0 if number < 2 else factor)
    with pytest.raises(InputError, match=r"schedule gives .* in round 2: the factor"):
        train(tmp_path, training=settings)
    assert History.load(tmp_path / "round-000002").rounds == 2


def test_a_factor_of_0_trains_nothing():
    still = LocalTraining(schedule=lambda number: 0)
    one, two = (train(None, rounds=rounds, training=still) for rounds in (1, 2))
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)


def test_a_run_goes_on_with_the_same_bits_and_no_other_schedule(tmp_path):
    training = LocalTraining(schedule=CosineDecay(rounds=6, warm_up=2))
    how = {"training": training, "participation": Participation()}
    train(tmp_path, rounds=3, **how)
    assert digest(train(tmp_path, **how)) == digest(train(None, **how))
    place = Checkpoint(tmp_path, resume=True)
    for other, words in (
        (CosineDecay(rounds=7, warm_up=2), "rounds=7"),
        (StepDecay(at=(3,)), r"StepDecay\(at=\(3,\), factor=0.1\)"),
        (math.sqrt, "'sqrt'"),
        (None, "None"),
    ):
        with pytest.raises(InputError, match=f"training.schedule 'CosineDecay.*not .*{words}"):
            train(None, **how | {"training": replace(training, schedule=other)}, checkpoint=place)
