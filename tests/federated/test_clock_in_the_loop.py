"""Rounds that take time and energy by a clock, and clients that are not always there."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from support import key_of
from support.killed_runs import split

from hasa_opt import AllocationProblem, Budget, Clock, InputError, solve, utility
from hasa_opt.federated import (
    Availability,
    Checkpoint,
    Execution,
    Faults,
    History,
    LocalTraining,
    Participation,
    Subnets,
    Update,
    aggregate,
    local_train,
    round_menu,
    run,
)
from hasa_opt.models import MLP, extract, fresh
from hasa_opt.tasks import Task

torch.set_num_threads(1)
SIZES = (30, 20, 40, 25, 10)
WIDTHS = np.array([0.5, 0.25, 1.0, 0.75, 0.5])
NAMES = tuple(f"client {row}" for row in range(5))
EMPTY = pytest.mark.filterwarnings("ignore:round .* no update was left")
FASTER = {"flops_per_s": [1e5, 2e5, 1e5, 4e5, 1e5], "down_bytes_per_s": 2e3, "up_bytes_per_s": 5e2}


@pytest.fixture
def task() -> Task:
    parts = [[split(n, 10 * k + at) for at, n in enumerate(SIZES)] for k in range(3)]
    return Task("toy", NAMES, *parts, np.ones((5, 3), dtype=np.int64), 3)


@pytest.fixture
def model() -> MLP:
    return fresh(MLP(6, 3, hidden=(8, 6)), seed=1)


def by_hand(model: MLP, row: int, startup_s: float = 0.0) -> tuple[float, float, float]:
    """Seconds of computing, of the transfers, and in all, of a client in a round."""
    subnet = extract(model, WIDTHS[row])
    n_bytes = 4 * sum(tensor.numel() for tensor in subnet.parameters())
    layers = [each for each in subnet.modules() if isinstance(each, torch.nn.Linear)]
    passes = [2, 3, 3]  # Nobody asks for the gradient of the inputs.
    weights = [each.weight.numel() for each in layers]
    flops = 2 * SIZES[row] * sum(np.multiply(passes, weights))
    compute = flops / FASTER["flops_per_s"][row]
    transfer = n_bytes / FASTER["down_bytes_per_s"] + n_bytes / FASTER["up_bytes_per_s"]
    return compute, transfer, startup_s + compute + transfer


def test_seconds_and_joules_are_those_computed_by_hand(model: MLP, task: Task) -> None:
    clock = Clock(**FASTER, startup_s=0.25, compute_w=[1, 2, 3, 4, 5], radio_w=0.5)
    timed = run(model, task, WIDTHS, rounds=2, participation=Participation(clock=clock))
    parts = np.array([by_hand(model, row, 0.25) for row in range(5)])
    joules = parts[:, 0] * [1, 2, 3, 4, 5] + parts[:, 1] * 0.5
    assert timed.clock_seconds == pytest.approx(np.tile(parts[:, 2], (2, 1)))
    assert timed.clock_joules == pytest.approx(np.tile(joules, (2, 1)))
    assert timed.round_seconds == pytest.approx([parts[:, 2].max()] * 2)
    untimed = run(model, task, WIDTHS, rounds=2)
    assert all(torch.equal(timed.weights[name], untimed.weights[name]) for name in timed.weights)
    assert np.isnan(untimed.clock_seconds).all()
    assert untimed.round_seconds.tolist() == [0, 0]


@pytest.mark.parametrize("engine", ["sequential", "batched"])
def test_who_is_past_the_deadline_has_trained_for_nothing(model, task, engine) -> None:
    parts = np.array([by_hand(model, row) for row in range(5)])
    limit = float(np.sort(parts[:, 2])[2]) * 1.0001
    late = parts[:, 2] > limit
    clock = Clock(**FASTER, deadline_s=limit, compute_w=1, radio_w=1)
    found = run(
        model, task, WIDTHS, rounds=2, seed=3, execution=Execution(engine=engine),
        participation=Participation(clock=clock),
    )  # fmt: skip
    assert late.sum() == 2
    assert {(event.round, event.client, event.kind) for event in found.events} == {
        (number, row, "late") for number in range(2) for row in np.flatnonzero(late)
    }
    assert found.round_seconds == pytest.approx([limit] * 2)
    assert found.clock_seconds[0, late] == pytest.approx([limit] * 2)
    assert found.clock_joules[0] == pytest.approx(parts[:, 2])
    wanted = copy.deepcopy(model)
    for number in range(2):
        updates = []
        for row in np.flatnonzero(~late):
            subnet = extract(wanted, WIDTHS[row])
            local_train(subnet, task.train[row], LocalTraining(), key_of(3, number, NAMES[row]))
            updates.append(Update(WIDTHS[row], SIZES[row], subnet.state_dict()))
        wanted.load_state_dict(aggregate(wanted, updates, "full"))
    for name, tensor in wanted.state_dict().items():
        torch.testing.assert_close(found.weights[name], tensor, atol=1e-6, rtol=1e-5)


def test_a_client_whose_widths_are_drawn_is_late_by_what_it_has_computed(model, task) -> None:
    drawn = Subnets(np.ones(5), scheme="ordered_dropout", mean_widths=np.full(5, 0.6))
    free = run(model, task, drawn, rounds=1, participation=Participation(clock=Clock(**FASTER)))
    limit = float(np.median(free.clock_seconds))
    clock = Clock(**FASTER, deadline_s=limit)
    found = run(model, task, drawn, rounds=1, participation=Participation(clock=clock))
    late = [event.client for event in found.events if event.kind == "late"]
    assert late == np.flatnonzero(free.clock_seconds[0] > limit).tolist()
    assert found.flops.tolist() == free.flops.tolist()


@EMPTY
def test_a_deadline_that_nobody_keeps_leaves_the_model_as_it_was(model: MLP, task: Task) -> None:
    clock = Clock(1e9, 1e9, 1e9, startup_s=5, deadline_s=1)
    found = run(model, task, WIDTHS, rounds=1, participation=Participation(clock=clock))
    state = model.state_dict()
    assert all(torch.equal(found.weights[name], state[name]) for name in state)
    assert found.round_seconds.tolist() == [1]


def test_traces_in_rounds_say_who_takes_part(model: MLP, task: Task) -> None:
    traces = {
        "client": ["client 0", "client 1", "client 1", "client 4"],
        "from": [0, 0, 2, 1],
        "to": [1, 1, 3, 3],
    }
    participation = Participation(availability=Availability(traces=traces, period=3))
    found = run(model, task, WIDTHS, rounds=4, participation=participation)
    trained = [np.flatnonzero(row > 0).tolist() for row in found.flops]
    assert trained == [[0, 1], [4], [1, 4], [0, 1]]
    assert found.tally == {}
    drawn = Participation(availability=participation.availability, clients_per_round=1)
    found = run(model, task, WIDTHS, rounds=3, participation=drawn)
    assert [np.count_nonzero(row) for row in found.flops] == [1, 1, 1]
    assert found.flops[1, 4] > 0


def test_a_share_is_a_probability_of_the_client_alone() -> None:
    able = Availability([0.0, 0.2, 0.9, 1.0])
    numbers = np.array([5, 6, 7, 8])
    rows = [able.present("abcd", numbers, (0, number), number) for number in range(2000)]
    assert np.mean(rows, axis=0) == pytest.approx([0, 0.2, 0.9, 1], abs=0.03)
    swapped = Availability([0.9, 0.2]).present("cb", numbers[[2, 1]], (0, 7), 7)
    assert swapped.tolist() == rows[7][[2, 1]].tolist()


def nights(**options) -> Participation:
    traces = {"client": ["client 1", "client 3"], "from": [30, 40], "to": [30.5, 45]}
    clock = Clock(1e9, 1e9, 1e9, startup_s=[9, 2, 9, 3, 9])
    available = Availability(traces=traces, unit="seconds", period=100)
    return Participation(clock=clock, availability=available, **options)


def test_traces_in_seconds_pass_by_the_clock(model: MLP, task: Task, tmp_path) -> None:
    found = run(
        model, task, WIDTHS, rounds=4, participation=nights(), checkpoint=tmp_path / "whole"
    )
    trained = [np.flatnonzero(row > 0).tolist() for row in found.flops]
    assert trained == [[1], [3], [3], [1]]
    assert found.round_seconds == pytest.approx([30 + 2, 8 + 3, 3, 84 + 2], abs=0.01)
    waited = [(event.round, event.kind, round(event.seconds)) for event in found.events]
    assert waited == [(0, "waited", 30), (1, "waited", 8), (3, "waited", 84)]
    stored = [History.load(path) for path in (tmp_path / "whole").glob("[!.]*")]
    newest = max(stored, key=lambda each: each.rounds)
    assert newest.round_seconds.tolist() == found.round_seconds.tolist()


def test_a_run_that_goes_on_knows_what_time_it_is(model: MLP, task: Task, tmp_path) -> None:
    whole = run(model, task, WIDTHS, rounds=4, participation=nights())
    place = tmp_path / "parts"
    run(model, task, WIDTHS, rounds=2, participation=nights(), checkpoint=place)
    rest = Checkpoint(place, resume=True)
    found = run(model, task, WIDTHS, rounds=4, participation=nights(), checkpoint=rest)
    assert found.round_seconds.tolist() == whole.round_seconds.tolist()
    assert all(torch.equal(found.weights[name], whole.weights[name]) for name in whole.weights)
    with pytest.raises(InputError, match=r"participation\.availability"):
        run(model, task, WIDTHS, rounds=4, checkpoint=rest)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Availability(1.5), r"share 1\.5 must be a probability"),
        (lambda: Availability(traces={"client": ["a"], "from": [1]}), "no column 'to'"),
        (
            lambda: Availability(traces={"client": ["a"], "from": [3], "to": [2]}),
            "from 3 to 2: it must begin",
        ),
        (
            lambda: Availability(traces={"client": ["a"], "from": [3], "to": [9]}, period=8),
            "within the period of 8; split one",
        ),
        (lambda: Availability(period=5), "period = 5 must be above 0 and finite, and of traces"),
        (lambda: Availability(unit="days"), "unit 'days' is not known"),
        (lambda: Participation(clock=1.0), r"clock is a float: give Clock\(\.\.\.\) or None"),
        (
            lambda: Participation(clock=Clock(1, 1, 1, deadline_s=2), faults=Faults(straggle=0.1)),
            r"straggle = 0\.1 beside a clock with a deadline",
        ),
    ],
)
def test_what_is_no_clock_or_availability_is_refused(make, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clock": Clock([1, 2], 1, 1)}, "flops_per_s of the clock has 2 values for 5 clients"),
        ({"availability": Availability([0.5, 0.5])}, "2 shares for 5 clients"),
        (
            {"availability": Availability(traces={"client": ["x"], "from": [0], "to": [1]})},
            "the traces name 'x', which the task does not have",
        ),
        (
            {
                "availability": Availability(
                    traces={"client": ["client 1"], "from": [0], "to": [1]}, unit="seconds"
                )
            },
            "traces in seconds need a clock",
        ),
    ],
)
def test_what_does_not_fit_the_task_is_refused_before_training(model, task, given, message):
    with pytest.raises(InputError, match=message):
        run(model, task, WIDTHS, rounds=1, participation=Participation(**given))


def test_a_run_spends_what_its_menu_said(model: MLP, task: Task) -> None:
    clock = Clock(**FASTER, startup_s=0.1, compute_w=2, radio_w=1)
    menu = round_menu(model, task, [0.25, 0.5, 1.0], epochs=[1, 2], skip=True, clock=clock)
    assert menu.names == ("skip", "0.25/1", "0.25/2", "0.5/1", "0.5/2", "1/1", "1/2")
    problem = AllocationProblem.build(
        task.clients(), menu=menu, budget={"millijoules": 0.5}, utility=utility.measured(
            np.tile([0.0, 1, 2, 2, 3, 3, 4], (5, 1)) * np.arange(1, 6)[:, None]
        ),
        constraints=[Budget("milliseconds", 4_000)],
    )  # fmt: skip
    result = solve(problem)
    found = run(model, task, result, rounds=1, participation=Participation(clock=clock))
    rows, choice = np.arange(5), result.choice
    assert found.flops[0].tolist() == menu.costs["flops"][rows, choice].tolist()
    moved = found.bytes_down + found.bytes_up
    assert moved[0].tolist() == menu.costs["bytes"][rows, choice].tolist()
    seconds, joules = np.nan_to_num(found.clock_seconds[0]), np.nan_to_num(found.clock_joules[0])
    assert menu.costs["milliseconds"][rows, choice] / 1000 == pytest.approx(seconds, abs=1e-3)
    assert menu.costs["millijoules"][rows, choice] / 1000 == pytest.approx(joules, abs=1e-3)
    assert 1000 * joules.sum() <= menu.costs["millijoules"][:, -1].sum() / 2


def test_options_that_a_clock_rules_out_are_those_that_come_too_late(model, task) -> None:
    clock = Clock(**FASTER, deadline_s=1.42)
    menu = round_menu(model, task, [0.25, 1.0], clock=clock)
    table = np.tile([0.0, 1.0], (5, 1))
    problem = AllocationProblem.build(
        task.clients(), menu=menu, utility=utility.measured(table),
        constraints=[clock.deadline()], budget={"flops": 1.0},
    )  # fmt: skip
    wide = run(model, task, np.ones(5), rounds=1, participation=Participation(clock=clock))
    late = {event.client for event in wide.events if event.kind == "late"}
    assert set(np.flatnonzero(~problem.admissible[:, 1])) == late
    assert 0 < len(late) < 5
