"""Fleets over Flower: what devices tell of themselves, and who joins, leaves and returns."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("flwr")

from flwr.app import Message
from flwr.clientapp import ClientApp
from support.flower_app import client, model, task
from support.flower_grid import LocalGrid

from hasa_opt import (
    Allocation,
    AllocationProblem,
    Budget,
    Clients,
    Clock,
    Menu,
    cost,
    models,
    scores,
    solve,
    utility,
)
from hasa_opt.errors import InfeasibleError, InputError
from hasa_opt.federated import (
    Availability,
    Decision,
    History,
    Participation,
    Subnets,
    round_menu,
    run,
)
from hasa_opt.flower import Device, Settings, client_app, serve
from hasa_opt.policies import Setting, read_policy
from hasa_opt.policies.whole_units import Meter, subnets_of

pytestmark = pytest.mark.slow

MENU = (0.25, 0.5, 0.75, 1.0)
SPEED = 1e6 * np.array([1, 8, 2, 9, 3, 1, 4, 8, 6, 5])
WATTS = np.linspace(1.0, 4.0, 10)
RESOURCES = ("milliseconds", "millijoules")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def settings(**changes: Any) -> Settings:
    common: dict[str, Any] = {"clients": 10, "rounds": 3, "batch_size": 8, "node_timeout_s": 0.2}
    return Settings(**common | {"widths": ", ".join(map(str, MENU)), "budget": 0.8} | changes)


def clock(rows: slice | int = slice(None), **more: Any) -> Clock:
    speed, watts = SPEED[rows], WATTS[rows]
    return Clock(speed, 1e5, 5e4, startup_s=0.01, compute_w=watts, radio_w=1.0, **more)


def timed(**more: Any) -> ClientApp:
    def device(partition: int, _: int) -> Device:
        return replace(Device.of(task(), partition), clock=clock(partition), **more)

    return client_app(model, device)


def in_one_process(own: Settings) -> Allocation:
    """The same program, of a menu and a clock."""
    whole = clock(deadline_s=own.deadline_s)
    taken = round_menu(model(), task(), MENU, clock=whole, training=own.training).costs
    columns = Clients(task().samples, counts=task().counts, names=task().client_names)
    menu = Menu(
        [str(width) for width in MENU],
        costs={"width": cost.width(), **{name: taken[name] for name in RESOURCES}},
        attributes={"width": MENU},
        full="1.0",
        clients=columns.names,
    )
    limits = zip(RESOURCES, (own.budget_s, own.budget_j), strict=True)
    problem = AllocationProblem.build(
        columns,
        menu=menu,
        budget={"width": own.budget},
        utility=utility.hasa(scores.jensen_shannon(columns.counts)),
        constraints=[
            whole.deadline(),
            *(Budget(name, round(1000 * limit)) for name, limit in limits),
        ],
    )
    return solve(problem)


@pytest.mark.parametrize(
    ("budget_s", "budget_j", "binds"), [(0.36, 0.4, "budget_s"), (0.36, 0.35, "budget_j")]
)
def test_what_devices_tell_feeds_the_program_as_in_one_process(
    budget_s: float, budget_j: float, binds: str
) -> None:
    own = settings(deadline_s=0.06, budget_s=budget_s, budget_j=budget_j)
    found = serve(model(), LocalGrid(timed(), range(10)), own)
    np.testing.assert_array_equal(found.widths, in_one_process(own).widths)
    for limit in ("deadline_s", binds):
        looser = replace(own, rounds=1, **{limit: 1000.0})
        free = serve(model(), LocalGrid(timed(), range(10)), looser)
        assert not np.array_equal(free.widths, found.widths), f"{limit} was not in the way"
        np.testing.assert_array_equal(free.widths, in_one_process(looser).widths)
    expected = run(
        model(), task(), found.widths, rounds=3, training=own.training,
        participation=Participation(clock=clock()),
    )  # fmt: skip
    for name in ("clock_seconds", "clock_joules", "test_loss"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)
    assert found.clock_seconds.max() <= own.deadline_s
    assert found.clock_seconds.sum(axis=1).max() <= own.budget_s
    assert found.clock_joules.sum(axis=1).max() <= own.budget_j


def test_rules_keep_the_deadline_and_the_memory_of_each_device() -> None:
    room = models.profile.profile(model(), MENU, torch.zeros(8, 6)).memory_bytes
    own = settings(policy="uniform", rounds=1, deadline_s=0.08)
    found = serve(model(), LocalGrid(timed(memory_bytes=float(room[2])), range(10)), own)
    taken = round_menu(model(), task(), MENU, clock=clock(), training=own.training).costs
    fitting = (taken["milliseconds"] <= 80).sum(axis=1) - 1
    caps = np.minimum(np.array(MENU)[fitting], 0.75)
    assert (found.widths <= caps).all()
    assert (found.widths == caps).any()


@pytest.mark.parametrize(
    ("app", "changes", "error", "message"),
    [
        (client, {"deadline_s": 1.0}, InputError, "'a', 'b', .* do not tell their speed"),
        (
            timed(),
            {"deadline_s": 0.03},
            InfeasibleError,
            "device 'f' takes 0.034 s at the narrowest",
        ),
        (timed(), {"budget_s": 1.0, "policy": "uniform"}, InputError, "knows no limit beside"),
        (timed(), {"budget_s": 1.0, "policy": "recommended"}, InputError, "knows no budget of sec"),
        (timed(memory_bytes=9.0), {}, InputError, "device 'a' has 9 bytes, but width 0.25 takes"),
    ],
)
def test_limits_that_nobody_can_keep_are_refused(
    app: ClientApp, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    grid = LocalGrid(app, range(10))
    with pytest.raises(error, match=message):
        serve(model(), grid, settings(**changes))
    assert all(message.metadata.message_type != "train" for message in grid.sent)


def test_what_a_device_tells_is_checked() -> None:
    with pytest.raises(InputError, match="a clock with 2 values of flops_per_s"):
        replace(Device.of(task(), 0), clock=Clock([1e6, 1e6], 1e5, 1e5))
    with pytest.raises(InputError, match="memory_bytes -1"):
        replace(Device.of(task(), 0), memory_bytes=-1)


@dataclass(frozen=True)
class Replayed:
    """Decides in the loop what was decided over Flower; who came later trains nothing before."""

    decisions: tuple[Decision, ...]
    rounds: int
    every: int = 1

    def describe(self) -> None:
        """Nothing: there is no checkpoint."""

    def __call__(self, seen: Any) -> Subnets | None:
        plan = [each for each in self.decisions if each.round <= seen.round][-1].subnets
        now = plan.during(seen.round, self.rounds)
        n_late = len(seen.samples) - len(now.widths)
        late = np.zeros(n_late)
        return Subnets(
            np.concatenate([now.widths, late]),
            now.scheme,
            deployed=np.concatenate([now.deploys, late + 0.25]),
        )


def moving(grid: LocalGrid, moves: dict[int, tuple[str, int]]) -> None:
    """Let nodes join and leave after the tests of some rounds."""
    done: set[int] = set()

    def move(message: Message, reply: Message) -> Message:
        number = int(message.metadata.group_id or -1)
        is_test = message.metadata.message_type == "evaluate"
        if is_test and number in moves and number not in done:
            done.add(number)
            action, partition = moves[number]
            getattr(grid, action)(partition)
        return reply

    grid.change = move


MOVES = {1: ("join", 8), 3: ("join", 9), 4: ("leave", 2), 6: ("join", 2)}
"""After which rounds; 8 and 9 are new, and trained from the rounds 2 and 4 on."""


def spent(found: History) -> list[float]:
    """Mean width over the samples of those who trained, in each round."""
    trained = np.isfinite(found.mean_width)
    samples = np.where(trained, task().samples[: found.n_clients], 0)
    return (np.nan_to_num(found.mean_width) * samples).sum(1) / samples.sum(1)


PERSONAL = {"evaluate_on": "personal", "interpolation": "validation", "output_bias": "local"}


@pytest.mark.parametrize(
    "changes",
    [{"policy": "optimal"}, {"policy": "uniform"}, {"policy": "fedrolex"}, PERSONAL],
    ids=str,
)
def test_who_joins_and_leaves_is_as_in_a_loop_where_they_are_there_at_times(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """What a node that returns has kept, it has on its disk."""

    def device(partition: int, _: int) -> Device:
        return replace(Device.of(task(), partition), directory=tmp_path)

    own = settings(clients=8, rounds=9, budget=0.5, **changes)
    grid = LocalGrid(client_app(model, device), range(8))
    moving(grid, MOVES)
    found = serve(model(), grid, own)
    assert [each.round for each in found.decisions] == [0, 2, 4, 5, 7]
    assert [each.reason.split(":")[0] for each in found.decisions[1:]] == [
        "i joined", "j joined", "c left", "c returned",
    ]  # fmt: skip
    assert found.decisions[1].changed[8], "who joins trains something else than before"
    there = {"client": [*"abcdefgh", "i", "j", "c"], "from": [0] * 8 + [2, 4, 7]}
    there["to"] = [9, 9, 5, *[9] * 8]
    expected = run(
        model(),
        task(),
        Replayed(found.decisions, 9),
        rounds=9,
        training=own.training,
        server=own.server,
        evaluation=own.evaluation,
        participation=Participation(availability=Availability(traces=there)),
    )
    for name, tensor in expected.weights.items():
        assert torch.equal(found.weights[name], tensor), name
    np.testing.assert_array_equal(found.train_loss, expected.train_loss)
    np.testing.assert_array_equal(found.mean_width, expected.mean_width)
    np.testing.assert_array_equal(found.test_loss[-1], expected.test_loss[-1])
    assert [(each.round, each.client, each.kind) for each in found.events] == [
        (5, 2, "dropped"), (6, 2, "dropped"),
    ]  # fmt: skip
    assert np.mean(spent(found)) == pytest.approx(0.5, abs=0.01)
    assert np.mean(spent(found)) <= 0.5 + 1e-9


def test_widths_are_solved_for_those_who_are_there() -> None:
    own = settings(clients=8, rounds=4, budget=0.5)
    grid = LocalGrid(client, range(8))
    moving(grid, {1: ("join", 9)})
    found = serve(model(), grid, own)
    rows = [*range(8), 9]
    names = [task().client_names[row] for row in rows]
    columns = Clients(task().samples[rows], counts=task().counts[rows], names=names)
    left = (4 * 0.5 - sum(spent(found)[:2])) / 2
    setting = Setting(columns, scores.jensen_shannon(columns.counts), left, MENU)
    meter = Meter.of(model().sizes, partial(models.units, model()))
    expected = subnets_of(read_policy("optimal"), setting, meter, 2)
    for number in (2, 3):
        widths = expected.during(number - 2, 2).widths
        np.testing.assert_allclose(found.mean_width[number], widths, atol=0.05)
        np.testing.assert_array_equal(found.decisions[1].subnets.during(number, 4).widths, widths)


@pytest.mark.parametrize("number", [2, 5])
def test_a_server_that_is_killed_knows_who_had_joined(tmp_path: Path, number: int) -> None:
    own = settings(clients=8, rounds=9, budget=0.5)
    grid = LocalGrid(client, range(8))
    moving(grid, MOVES)
    whole = serve(model(), grid, own)
    stored, grid = replace(own, checkpoint=str(tmp_path)), LocalGrid(client, range(8))
    moving(grid, MOVES)
    move = grid.change

    def cut(message: Message, reply: Message) -> Message | None:
        kind, group = message.metadata.message_type, message.metadata.group_id
        if kind == "train" and group == str(number):
            raise KeyboardInterrupt
        return move(message, reply)

    grid.change = cut
    with pytest.raises(KeyboardInterrupt):
        serve(model(), grid, stored)
    grid.change = move
    found = serve(model(), grid, stored)
    assert all(torch.equal(found.weights[name], tensor) for name, tensor in whole.weights.items())
    np.testing.assert_array_equal(found.test_loss, whole.test_loss)
    assert [each.round for each in found.decisions] == [0, 2, 4, 5, 7]


@pytest.mark.parametrize("changes", [{"reallocate": False}, {"policy": "recommended"}])
def test_newcomers_are_left_out_where_widths_stay(changes: dict[str, Any]) -> None:
    own = settings(clients=8, rounds=3, **changes)
    grid = LocalGrid(client, range(8))
    moving(grid, {0: ("join", 8)})
    found = serve(model(), grid, own)
    assert found.n_clients == 8
    assert found.events == ()


def test_a_newcomer_with_which_nothing_can_be_begun_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def device(partition: int, _: int) -> Device:
        own = Device.of(task(), partition)
        return replace(own, counts=own.counts[: 3 if partition == 8 else 4])

    grid = LocalGrid(client_app(model, device), range(8))
    moving(grid, {0: ("join", 8), 1: ("join", 9)})
    found = serve(model(), grid, settings(clients=8, rounds=4))
    assert "newcomers out: devices count 3, 4 labels" in caplog.text
    assert [each.reason.split(":")[0] for each in found.decisions[1:]] == ["j joined"]
    assert found.n_clients == 9
    queries = [each for each in grid.sent if each.metadata.message_type == "query.profile"]
    assert len(queries) == 10
