"""Faults, the screening of updates, sampled clients, and splits that are loaded when drawn."""

from __future__ import annotations

import copy
import gc
import math
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import key_of
from support.killed_runs import split

from hasa_opt.errors import InputError
from hasa_opt.federated import (
    ENGINES,
    Event,
    Execution,
    Faults,
    History,
    LocalTraining,
    Participation,
    Server,
    Update,
    run,
)
from hasa_opt.federated import aggregate as average
from hasa_opt.federated.aggregation import Screen
from hasa_opt.federated.engines import Job, Report, sequential
from hasa_opt.federated.participation import CORRUPTIONS, corrupted, draw_clients
from hasa_opt.models import MLP, SupernetModel, extract, fresh
from hasa_opt.tasks import Lazy, Split, Task

torch.set_num_threads(1)
SIZES = (30, 20, 40, 25, 10)
WIDTHS = np.array([0.5, 0.25, 1.0, 0.75, 0.5])
EMPTY = pytest.mark.filterwarnings("ignore:round .* no update was left")


def make_task(n_clients: int = 5) -> Task:
    sizes = np.resize(SIZES, n_clients)
    return Task(
        "toy",
        tuple(f"client {row}" for row in range(n_clients)),
        tuple(split(int(size), row) for row, size in enumerate(sizes)),
        tuple(split(5, 1000 + row) for row in range(n_clients)),
        tuple(split(6, 2000 + row) for row in range(n_clients)),
        np.ones((n_clients, 3), dtype=np.int64),
        3,
    )


@pytest.fixture
def model() -> MLP:
    return fresh(MLP(6, 3, hidden=(8, 6)), seed=1)


def same_state(left, right) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


# -------------------------------------------------------------------------------------- faults


def test_fates_have_their_probabilities_and_hang_on_the_key_alone() -> None:
    faults = Faults(dropout=0.2, straggle=0.3, corrupt=0.5)
    keys = [(7, number, client) for number in range(60) for client in range(60)]
    fates = {key: faults.fate(key) for key in keys}
    assert fates == {key: faults.fate(key) for key in reversed(keys)}
    shares = {fate: count / len(keys) for fate, count in Counter(fates.values()).items()}
    expected = {"dropped": 0.2, "late": 0.24, "corrupt": 0.28, "reports": 0.28}
    assert shares == pytest.approx(expected, abs=0.03)
    other = [faults.fate((8, number, client)) for _, number, client in keys]
    assert other != list(fates.values())


def test_more_dropout_drops_the_same_clients_and_more() -> None:
    keys = [(0, number, client) for number in range(30) for client in range(30)]
    few = {key for key in keys if Faults(dropout=0.1).fate(key) == "dropped"}
    many = {key for key in keys if Faults(dropout=0.3, straggle=0.5).fate(key) == "dropped"}
    assert few < many


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "often"])
@pytest.mark.parametrize("name", ["dropout", "straggle", "corrupt"])
def test_a_probability_is_between_0_and_1(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name} = {value} must be a probability"):
        Faults(**{name: value})


def test_every_corruption_is_rejected_and_leaves_the_state_alone(model: MLP) -> None:
    screen = Screen(model, max_norm=1e6)
    state = extract(model, 0.5).state_dict()
    before = copy.deepcopy(state)
    assert screen.fault(Update(0.5, 3, state)) is None
    reasons = Counter()
    for client in range(200):
        fault = screen.fault(Update(0.5, 3, corrupted(state, (0, 0, client))))
        assert fault is not None
        reasons[next(w for w in ("NaN or infinity", "shape", "Euclidean norm") if w in fault)] += 1
    assert same_state(state, before)
    assert len(CORRUPTIONS) == 4
    assert min(reasons.values()) > 20


def numbers(task: Task) -> np.ndarray:
    return np.array([key_of(0, 0, name)[2] for name in task.client_names])


def written_out(model, task, aggregation: str, absent: set[tuple[int, int]], rounds: int):
    """The loop by hand, without the updates of the (round, client) pairs in ``absent``."""
    from hasa_opt.federated import local_train

    server = copy.deepcopy(model)
    for number in range(rounds):
        updates = []
        for client, width in enumerate(WIDTHS):
            if (number, client) in absent:
                continue
            subnet = extract(server, width)
            own = task.train[client]
            key = key_of(2, number, task.client_names[client])
            local_train(subnet, own, LocalTraining(), key)
            updates.append(Update(width, len(own), subnet.state_dict()))
        if updates:
            server.load_state_dict(average(server, updates, aggregation))
    return server.state_dict()


@pytest.mark.parametrize("aggregation", ["full", "selective"])
@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        (Faults(dropout=0.4), "dropped"),
        (Faults(straggle=0.4), "late"),
        (Faults(corrupt=0.4), "rejected"),
    ],
)
def test_faulty_clients_are_as_if_they_were_not_there(
    model: MLP, faults: Faults, kind: str, aggregation: str
) -> None:
    task = make_task()
    history = run(
        model,
        task,
        WIDTHS,
        rounds=4,
        seed=2,
        participation=Participation(faults=faults),
        server=Server(aggregation=aggregation),
    )
    failed = {(event.round, event.client) for event in history.events}
    assert {event.kind for event in history.events} == {kind}
    assert 2 <= len(failed) <= 18
    assert history.tally == {kind: len(failed)}
    by_hand = written_out(model, task, aggregation, failed, 4)
    assert same_state(dict(history.weights), dict(by_hand))
    rows, clients = map(list, zip(*failed, strict=True))
    trained = np.ones((4, 5), dtype=bool)
    trained[rows, clients] = kind == "rejected"
    assert np.array_equal(np.isfinite(history.train_loss), trained)
    assert np.array_equal(history.bytes_up > 0, trained | (kind == "late"))
    assert np.array_equal(history.flops > 0, trained | (kind == "late"))
    assert np.isfinite(history.test_accuracy).all()


@EMPTY
@pytest.mark.parametrize("faults", [Faults(dropout=1), Faults(straggle=1), Faults(corrupt=1)])
@pytest.mark.parametrize("aggregation", ["full", "selective"])
def test_round_in_which_nobody_reports_keeps_the_model_and_says_so(
    model: MLP, faults: Faults, aggregation: str
) -> None:
    with pytest.warns(UserWarning, match="round 1: no update was left, the model is kept"):
        history = run(
            model,
            make_task(),
            WIDTHS,
            rounds=2,
            participation=Participation(faults=faults),
            server=Server(aggregation=aggregation),
        )
    assert same_state(dict(history.weights), dict(model.state_dict()))
    assert history.tally["empty"] == 2
    assert history.events[-1] == Event(
        1, None, "empty", "no update was left: the model stays as it was"
    )
    assert [event.client for event in history.events if event.round == 1] == [*range(5), None]


@EMPTY
def test_faults_do_not_depend_on_training_or_sampling(model: MLP) -> None:
    faults = Faults(0.2, 0.2, 0.2)
    task = make_task()
    events = [
        {(event.round, event.client, event.kind) for event in done.events}
        for done in (
            run(model, task, WIDTHS, rounds=3, participation=Participation(faults=faults)),
            run(
                model,
                task,
                WIDTHS[::-1],
                rounds=3,
                participation=Participation(faults=faults),
                training=LocalTraining(learning_rate=0.5),
            ),
            run(
                model,
                task,
                WIDTHS,
                rounds=3,
                participation=Participation(faults=faults, clients_per_round=3),
            ),
        )
    ]
    assert events[0] == events[1]
    assert events[2] < events[0]


# ----------------------------------------------------------------------------------- screening


def engine_that(spoil):
    """An engine whose third client's state is spoilt."""

    def engine(server: SupernetModel, jobs: Iterator[Job], settings: LocalTraining):
        for report in sequential(server, jobs, settings):
            state = dict(report.state)
            if report.job.client == 2:
                spoil(state)
            yield Report(report.job, state, report.result)

    return engine


def put(name: str, value):
    return lambda state: state.__setitem__(name, value(state[name]))


BIAS, WEIGHT = "layers.0.bias", "layers.1.weight"


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (put(BIAS, lambda t: t.index_fill(0, torch.tensor([3]), math.nan)), f"{BIAS} holds NaN"),
        (put(WEIGHT, lambda t: t / 0), f"{WEIGHT} holds NaN or infinity"),
        (put(BIAS, lambda t: t[:-1]), f"{BIAS} of the subnet has shape (7,)"),
        (put(WEIGHT, lambda t: t.T.contiguous()), f"{WEIGHT} of the subnet has shape (8, 6)"),
        (put(BIAS, lambda t: t[:1]), f"{BIAS} of the subnet has shape (1,)"),
        (lambda state: state.pop(BIAS), f"lacks ['{BIAS}']"),
        (put(WEIGHT, lambda t: t + 200), "(Euclidean norm), above 1000"),
        (put(WEIGHT, lambda t: t * 1e38), "it changes the weights by"),
    ],
)
def test_bad_update_never_touches_the_weights_without_any_faults(
    model: MLP, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spoil, reason: str
) -> None:
    monkeypatch.setitem(ENGINES, "spoilt", engine_that(spoil))
    task = make_task()
    history = run(
        model,
        task,
        WIDTHS,
        rounds=2,
        seed=2,
        execution=Execution(engine="spoilt"),
        server=Server(max_update_norm=1e3),
    )
    assert [(event.round, event.client, event.kind) for event in history.events] == [
        (0, 2, "rejected"),
        (1, 2, "rejected"),
    ]
    assert all(reason in event.reason for event in history.events)
    by_hand = written_out(model, task, "full", {(0, 2), (1, 2)}, 2)
    assert same_state(dict(history.weights), dict(by_hand))
    history.save(tmp_path / "run")
    assert History.load(tmp_path / "run").events == history.events


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_bound_is_on_the_change_and_exact(model: MLP, width: float) -> None:
    server = fresh(model, seed=3)
    server.load_state_dict({name: 50 + tensor for name, tensor in server.state_dict().items()})
    received = extract(server, width).state_dict()
    noise = {name: torch.randn_like(tensor) for name, tensor in received.items()}
    sent = {name: tensor + noise[name] for name, tensor in received.items()}
    flat = torch.cat([(sent[name] - received[name]).double().flatten() for name in received])
    norm = float(flat.norm())
    update = Update(width, 3, sent)
    assert Screen(server, norm * (1 + 1e-5)).fault(update) is None
    assert "Euclidean norm" in (Screen(server, norm * (1 - 1e-5)).fault(update) or "")
    assert Screen(server, None).fault(update) is None


def test_without_a_bound_any_finite_update_counts(model: MLP, monkeypatch) -> None:
    spoil = put(WEIGHT, lambda t: t + 1e9)
    monkeypatch.setitem(ENGINES, "spoilt", engine_that(spoil))
    arguments = {"rounds": 1, "execution": Execution(engine="spoilt")}
    assert run(model, make_task(), WIDTHS, **arguments).tally == {"rejected": 1}
    history = run(model, make_task(), WIDTHS, server=Server(max_update_norm=None), **arguments)
    assert history.tally == {}
    assert history.weights[WEIGHT].abs().max() > 1e8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"clients_per_round": 6}, "clients_per_round = 6 must be a whole number from 1 to the 5"),
        ({"faults": Faults(absent=(5,))}, r"faults\.absent names client 5"),
    ],
)
def test_more_clients_than_there_are_cannot_take_part(model: MLP, change: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(model, make_task(), WIDTHS, rounds=1, participation=Participation(**change))


# ------------------------------------------------------------------------------------ sampling


def test_sampling_is_uniform_without_replacement_and_keyed() -> None:
    clients = np.array([key_of(0, 0, name)[2] for name in "abcdefghij"])
    drawn = [draw_clients(clients, 3, (5, number)) for number in range(2000)]
    assert all(len(set(rows.tolist())) == 3 and (np.diff(rows) > 0).all() for rows in drawn)
    counts = np.bincount(np.concatenate(drawn), minlength=10)
    assert np.abs(counts - 600).max() < 5 * math.sqrt(2000 * 0.3 * 0.7)
    pairs = Counter(tuple(rows[:2].tolist()) for rows in drawn)
    assert len(pairs) == 36, "every pair of the smallest two occurs"
    assert np.array_equal(draw_clients(clients, 3, (5, 7)), drawn[7])
    other = [draw_clients(clients, 3, (6, number)) for number in range(9)]
    assert any((rows != drawn[number]).any() for number, rows in enumerate(other))
    assert draw_clients(clients[:4], None, (0, 0)).tolist() == [0, 1, 2, 3]


@EMPTY
def test_only_drawn_clients_are_trained_and_measured(model: MLP) -> None:
    task = make_task()
    history = run(
        model, task, WIDTHS, rounds=5, seed=2, participation=Participation(clients_per_round=2)
    )
    drawn = np.zeros((5, 5), dtype=bool)
    for number in range(5):
        drawn[number, draw_clients(numbers(task), 2, (2, number))] = True
    assert np.array_equal(np.isfinite(history.train_loss), drawn)
    assert np.array_equal(history.bytes_down > 0, drawn)
    assert np.array_equal(np.isfinite(history.test_accuracy[:-1]), drawn[:-1])
    assert np.isfinite(history.final_accuracy).all()
    absent = {(int(row), int(client)) for row, client in np.argwhere(~drawn)}
    assert same_state(dict(history.weights), dict(written_out(model, task, "full", absent, 5)))


# ---------------------------------------------------------------------------------------- lazy


class Loads:
    """Loads splits, and knows how many of them live at the same time."""

    def __init__(self, task: Task) -> None:
        self.task, self.calls, self.most = task, Counter(), 0
        self.living: weakref.WeakSet = weakref.WeakSet()

    def lazy(self, name: str) -> Lazy:
        splits = getattr(self.task, name)

        def load(client: int):
            self.calls[name, client] += 1
            loaded = copy.copy(splits[client])
            self.living.add(loaded)
            self.most = max(self.most, len(self.living))
            return loaded

        return Lazy([len(own) for own in splits], load)


def lazy_task(n_clients: int = 5) -> tuple[Task, Loads]:
    task = make_task(n_clients)
    loads = Loads(task)
    parts = (loads.lazy(name) for name in ("train", "validation", "test"))
    return Task("toy", task.client_names, *parts, counts=task.counts, n_outputs=3), loads


def test_lazy_splits_train_alike_and_are_freed(model: MLP, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hasa_opt.federated.client_tests.WINDOW_BYTES", 1)
    task, loads = lazy_task(40)
    assert not loads.calls, "building the task loads nothing"
    assert task.samples.tolist() == make_task(40).samples.tolist()
    assert task.clients().samples.sum() == task.samples.sum()
    assert repr(task)
    assert not loads.calls
    widths = np.resize(WIDTHS, 40)
    history = run(model, task, widths, rounds=3, participation=Participation(clients_per_round=10))
    gc.collect()
    assert len(loads.living) == 0
    assert loads.most <= 4, "splits are not kept beyond their turn"
    rows = [draw_clients(numbers(task), 10, (0, number)) for number in range(3)]
    drawn = set(np.concatenate(rows).tolist())
    assert {client for name, client in loads.calls if name == "train"} == drawn | {0}
    eager = run(
        model, make_task(40), widths, rounds=3, participation=Participation(clients_per_round=10)
    )
    assert same_state(dict(eager.weights), dict(history.weights))
    np.testing.assert_array_equal(eager.test_loss, history.test_loss)


def test_lazy_is_a_sequence_that_checks_what_it_loads() -> None:
    splits = [split(size, size) for size in (3, 4, 5)]
    lazy = Lazy([3, 4, 5], splits.__getitem__)
    assert [len(own) for own in lazy] == [3, 4, 5]
    assert lazy[-1] is splits[2]
    assert [len(own) for own in lazy[1:]] == [4, 5]
    with pytest.raises(IndexError):
        lazy[3]
    wrong = Lazy([3, 4, 6], splits.__getitem__)
    assert wrong[0] is splits[0]
    with pytest.raises(InputError, match="client 2 was loaded with 5 samples, but its size is 6"):
        wrong[2]
    with pytest.raises(InputError, match="client 1 has -1 samples"):
        Lazy([3, -1], splits.__getitem__)
    with pytest.raises(InputError, match="float64"):
        Lazy([3.0], splits.__getitem__)
    with pytest.raises(InputError, match=r"shape \(1, 1\)"):
        Lazy([[3]], splits.__getitem__)


def test_task_of_lazy_splits_checks_their_number() -> None:
    task, _ = lazy_task(5)
    with pytest.raises(InputError, match="'train' has 4 entries for 5 clients"):
        Task("toy", task.client_names, task.train[:4], task.validation, task.test, task.counts, 3)


PEAK = """
import os, sys
import numpy as np, torch
from hasa_opt import models
from hasa_opt.federated import Participation, run
from hasa_opt.tasks import Lazy, Split, Task

def load(client):
    generator = torch.Generator().manual_seed(client)
    inputs = torch.randn(50, 5000, generator=generator)
    return Split(inputs, torch.randint(0, 3, (50,), generator=generator))

def held_out(client):
    return Split(torch.zeros(1, 5000), torch.zeros(1, dtype=torch.int64))

def peak(n):
    parts = Lazy(np.full(n, 50), load), *[Lazy(np.ones(n, int), held_out)] * 2
    task = Task("many", tuple(map(str, range(n))), *parts, np.ones((n, 3), dtype=np.int64), 3)
    model = models.fresh(models.MLP(5000, 3, hidden=(8,)), 0)
    run(model, task, np.resize([0.25, 0.5, 1.0], n), rounds=2,
        participation=Participation(clients_per_round=50))
    # Not ru_maxrss, which a child inherits from the process that starts it.
    status = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) // 1024

torch.set_num_threads(1)
for n in sys.argv[1:]:  # each in a process of its own, which need not import all this again
    if os.fork() == 0:
        print(peak(int(n)), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read in /proc")
def test_memory_does_not_grow_with_the_registered_clients() -> None:
    """All splits of 400 clients would take 400 MB; they take as much memory as those of 100."""
    command = [sys.executable, "-c", PEAK, "100", "400"]
    ended = subprocess.run(command, capture_output=True, check=True, text=True)
    few, many = map(int, ended.stdout.split())
    assert many - few < 40, f"peak {few} MiB, then {many} MiB"


def test_a_run_of_lazy_splits_without_a_target_to_learn_is_refused(model: MLP) -> None:
    task = make_task(4)
    hidden = [Split(own.inputs, torch.full_like(own.targets, -100)) for own in task.train]
    lazy = Lazy([len(own) for own in hidden], hidden.__getitem__)
    with pytest.raises(InputError, match="nothing to learn"):
        run(model, replace(task, train=lazy), [0.5] * 4, rounds=1)
    hidden[2] = task.train[2]
    assert run(model, replace(task, train=lazy), [0.5] * 4, rounds=1).rounds == 1
