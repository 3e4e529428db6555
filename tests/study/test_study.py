"""Studies: matched seeds, matched budgets, summaries, resumption, parallel runs."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console
from support import environment
from support.marks import some_nightly
from torch import nn

import hasa_opt as hasa
from hasa_opt import federated
from hasa_opt.federated.rounds import Round
from hasa_opt.models import MLP, LSTMLanguageModel, Supernet, units
from hasa_opt.policies import POLICIES, Policy, Setting, Subnets
from hasa_opt.study import Study
from hasa_opt.study.results import read_results
from hasa_opt.study.summary import summarise
from hasa_opt.study.trials import Trial
from hasa_opt.tasks import Split, Task

pytestmark = pytest.mark.slow

SIZES = (40, 25, 60, 12)


def blobs(seed: int = 0, test_seed: int = 7) -> Task:
    """Four clients with points around three centres; test data from a seed of its own."""
    centres = np.random.default_rng(3).normal(size=(3, 6)) * 2

    def draw(client: int, part: int, size: int, own_seed: int) -> Split:
        rng = np.random.default_rng([own_seed, client, part])
        labels = rng.choice(3, size=size, p=np.roll([0.6, 0.3, 0.1], client))
        points = centres[labels] + rng.normal(size=(size, 6))
        return Split(torch.tensor(points, dtype=torch.float32), torch.tensor(labels))

    train = tuple(draw(client, 0, size, seed) for client, size in enumerate(SIZES))
    return Task(
        name="blobs",
        client_names=("a", "b", "[c]", "d"),
        train=train,
        validation=tuple(draw(client, 1, 10, seed) for client in range(4)),
        test=tuple(draw(client, 2, 20, test_seed) for client in range(4)),
        counts=np.stack([np.bincount(split.targets, minlength=3) for split in train]),
        n_outputs=3,
        fingerprint={"seed": str(seed)},
    )


def small_study(workers: int | None = 1, **options: object) -> Study:
    settings = {"policies": ("uniform", "reverse"), "seeds": (0, 1), "rounds": 2}
    settings |= {"execution": federated.Execution(workers=workers)} | options
    return Study(blobs(), MLP(6, 3, hidden=(16, 16)), **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def done() -> Study:
    return small_study().run()


def test_a_study_shows_its_table_and_before_what_it_will_do(done: Study) -> None:
    shown = str(done)
    assert "client mean" in shown
    assert "reverse" in shown
    assert repr(done).endswith(", 4 runs done)")
    planned = str(small_study())
    assert planned.startswith("Study(")
    assert planned.endswith("not run yet)")
    history = str(done.outcomes[0].history)
    assert "test accuracy, %" in history
    assert all(name in history for name in done.task.client_names)
    assert repr(done.outcomes[0].history).startswith("History(2 rounds, ")


def test_each_policy_and_seed_is_trained_once(done: Study) -> None:
    assert [(own.policy, own.seed) for own in done.outcomes] == [
        ("uniform", 0),
        ("uniform", 1),
        ("reverse", 0),
        ("reverse", 1),
    ]
    assert all(own.history.rounds == 2 for own in done.outcomes)


def test_the_model_is_tried_on_a_sample_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many seeds there are; each run that is trained looks once more."""
    from hasa_opt.federated import settings

    calls: list[object] = []
    monkeypatch.setattr(settings, "check_fit", lambda *given: calls.append(given))
    study = small_study(policies=("uniform",), seeds=(0, 1, 2))
    assert len(calls) == 1
    done = study.run(compare_solvers=False)
    assert len(calls) == 1 + 3
    assert len(done.outcomes) == 3
    assert not study.outcomes


def test_seeds_are_matched_and_differ(done: Study) -> None:
    by_key = {(own.policy, own.seed): own for own in done.outcomes}
    task, model = done.task, done.model
    own = by_key["uniform", 1]
    again = federated.run(hasa.models.fresh(model, 1), task, own.widths, rounds=2, seed=1)
    assert np.array_equal(again.test_accuracy, own.history.test_accuracy)
    assert not np.array_equal(
        by_key["uniform", 0].history.train_loss, by_key["uniform", 1].history.train_loss
    )


@pytest.mark.parametrize("budget", some_nightly([0.35, 0.5, 0.7], [0.5]))
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_meets_the_realised_budget(policy: str, budget: float) -> None:
    study = small_study(budget=budget, policies=(policy,), seeds=(0,))
    subnets, full = study.subnets(policy), sum(SIZES) * units(study.model, 1.0)
    costs = [
        sum(size * units(study.model, own) for size, own in zip(SIZES, trained, strict=True))
        for trained in (_trained(subnets.during(number, 2)) for number in range(2))
    ]
    assert subnets.share == pytest.approx(np.mean(costs) / full)
    (outcome,) = study.run(compare_solvers=False).outcomes
    if POLICIES[policy].allocator is None:
        assert outcome.realised == pytest.approx(subnets.share)
    everybody_a_unit_wider_in_a_round = 2 / 32 / 2
    for spent in (subnets.share, outcome.realised):
        assert budget - everybody_a_unit_wider_in_a_round < spent <= budget + 1e-9


def _trained(subnets: Subnets) -> np.ndarray:
    return subnets.widths if subnets.mean_widths is None else subnets.mean_widths


def test_who_is_left_out_of_training_is_tested_counted_and_named(tmp_path: Path) -> None:
    caps = [1.0, 0.3, 1.0, 1.0]
    policies = ("uniform", "exclude", "smallest")
    study = small_study(policies=policies, seeds=(0,), max_width=caps, rounds=20)
    done = study.run(compare_solvers=False)
    own = next(each for each in done.outcomes if each.policy == "exclude")
    assert own.history.widths[1] == own.history.flops[:, 1].max() == 0
    assert 0.2 < own.widths[1] <= 0.3  # what its device could deploy, on which it is tested
    uniform, exclude, smallest = done.summary()
    assert exclude.mean == pytest.approx(100 * own.own.mean())
    assert exclude.worst == pytest.approx(100 * own.own.min())
    assert [row.costs.excluded for row in done.summary()] == [0, 1, 0]
    assert [row.flagged for row in done.summary()] == [False, False, True]
    assert done.record()["widths"]["exclude"]["b"] == 0
    assert uniform.realised == pytest.approx(exclude.realised, rel=0.01)
    assert smallest.realised == pytest.approx(own.widths[1], abs=0.05)
    printed = Console(width=100, file=io.StringIO())
    printed.print(done.allocation_table(), done.costs_table())
    text = printed.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("  out") == 2
    assert "left out of training" in text
    report = done.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "exclude leaves out of training: b." in report
    done.write_results(tmp_path / "results.csv")
    kept = read_results(tmp_path / "results.csv")
    assert kept.excluded.tolist() == done.results.excluded.tolist()
    (axes,) = done.plot("allocation").axes
    drawn = [float(line.get_xdata()[1]) for line in axes.lines if len(line.get_xdata()) == 4]
    assert drawn.count(0.0) == 1


def test_what_was_spent_counts_nothing_for_those_that_are_left_out() -> None:
    study = small_study(policies=("exclude",), max_width=[1.0, 0.3, 1.0, 1.0])
    subnets, nan = study.subnets("exclude"), np.nan
    history = SimpleNamespace(mean_width=np.array([[0.5, nan, 0.6, nan], [0.5, nan, nan, 0.7]]))
    spent = study.planner.spent(subnets, history)  # type: ignore[arg-type]
    assert spent == pytest.approx(np.dot(SIZES, [0.5, 0, 0.6, 0.7]) / sum(SIZES))
    absent = SimpleNamespace(mean_width=np.array([[0.5, nan, 0.6, nan]]))
    assert study.planner.spent(subnets, absent) == subnets.share  # type: ignore[arg-type]


def test_policy_that_misses_the_budget_is_flagged(done: Study) -> None:
    outcomes = tuple(
        replace(own, realised=0.4974 if own.policy == "reverse" else 0.4976)
        for own in done.outcomes
    )
    flags = {row.policy: row.flagged for row in replace(done, outcomes=outcomes).summary()}
    assert flags == {"uniform": False, "reverse": True}


def test_summary_is_what_numpy_says(done: Study) -> None:
    accuracies = np.array([[0.5, 0.25, 0.75, 1.0], [0.4, 0.35, 0.85, 0.6]])
    outcomes = tuple(replace(own, own=accuracies[own.seed]) for own in done.outcomes)
    row = replace(done, outcomes=outcomes).summary()[0]
    assert row.mean == pytest.approx(100 * accuracies.mean())
    assert row.mean_std == pytest.approx(100 * accuracies.mean(axis=1).std(ddof=1))
    assert row.worst == pytest.approx(30.0)
    assert row.worst_std == pytest.approx(np.std([25, 35], ddof=1))
    assert row.worst_third == pytest.approx(30.0)


def test_a_policy_of_your_own_is_compared_like_the_others(tmp_path: Path) -> None:
    def choose(setting: Setting) -> np.ndarray:
        return np.where(setting.clients.samples > 30, 0.5, 0.2)

    widest = Policy("largest_first", choose)
    study = small_study(policies=[widest, "uniform", widest.having("personal")], budget=0.42)
    assert list(study.compared) == ["largest_first", "uniform", "largest_first+personal"]
    assert np.array_equal(study.allocate(widest), study.allocate("largest_first"))
    done = study.run(directory=tmp_path, compare_solvers=False)
    assert done.results.policies == ("largest_first", "uniform", "largest_first+personal")
    first, _, third = (done.outcomes[row] for row in (0, 2, 4))
    assert first.history is third.history, "personal models are those of the same run"
    assert np.array_equal(third.own, first.history.personal_accuracy[-1])


def test_test_data_changes_no_allocation() -> None:
    other = replace(blobs(), test=blobs(test_seed=8).test)
    assert not torch.equal(other.test[0].inputs, blobs().test[0].inputs)
    original, changed = small_study(), replace(small_study(), task=other)
    for policy in POLICIES:
        assert np.array_equal(original.allocate(policy, 1), changed.allocate(policy, 1))


def test_parallel_runs_give_the_same_numbers(done: Study) -> None:
    parallel = small_study(workers=2).run(compare_solvers=False)
    for own, other in zip(done.outcomes, parallel.outcomes, strict=True):
        assert np.array_equal(own.history.test_accuracy, other.history.test_accuracy)
        assert all(
            torch.equal(weight, other.history.weights[name])
            for name, weight in own.history.weights.items()
        )


def test_interrupted_study_goes_on(
    done: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = Trial.run

    def counted(trial: Trial, *given: object) -> federated.History:
        calls.append(trial.seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(trial, *given)

    monkeypatch.setattr(Trial, "run", counted)
    with pytest.raises(KeyboardInterrupt):
        small_study().run(directory=tmp_path, compare_solvers=False)
    finished: list[tuple[int, int]] = []
    resumed = small_study().run(
        directory=tmp_path,
        compare_solvers=False,
        on_progress=lambda *step: finished.append(step),
    )
    assert len(calls) == 5, "two finished runs are not repeated"
    assert finished[-1] == (4, 4)
    for own, other in zip(done.outcomes, resumed.outcomes, strict=True):
        assert np.array_equal(own.history.test_accuracy, other.history.test_accuracy)


def wait_for(condition, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def state_of(pid: int) -> tuple[str, int]:
    """State and parent of a process; Z where there is none or but a zombie."""
    try:
        state, above = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except OSError:
        return "Z", 0
    return state, int(above)


def workers_of(parent: int) -> list[int]:
    """Worker processes that joblib has started for a process."""
    own = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [
        pid
        for pid in own
        if state_of(pid)[1] == parent
        and b"LokyProcess" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


QUICK = "import hasa_opt.study.study as at; at.compare = lambda *given, **options: None\n"


def at_work(worker: int, directory: Path) -> bool:
    """Whether a worker trains: it holds the lock of a trial's rounds."""
    try:
        return any(
            Path(os.readlink(opened)).is_relative_to(directory.resolve())
            for opened in Path(f"/proc/{worker}/fd").iterdir()
        )
    except OSError:
        return False


def test_killed_study_repeats_nothing_and_gives_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = (
        "from test_study import small_study\n"
        f"small_study(workers=2, rounds=20).run(\n"
        f"    directory={str(tmp_path)!r}, compare_solvers=False\n"
        ")\n"
    )
    command = [sys.executable, "-c", program]
    started = subprocess.Popen(command, cwd=Path(__file__).parent, env=environment())

    def results() -> set[str]:
        return {index.parent.name for index in tmp_path.glob("*/history.json")}

    def rounds() -> list[int]:
        newest = (sorted(place.glob("round-*"))[-1:] for place in tmp_path.glob("*-rounds"))
        return [int(place[0].name[-6:]) for place in newest if place]

    begun: set[int] = set()

    def both_begun() -> bool:
        if len(begun) < 2 and rounds():
            begun.update(own for own in workers_of(started.pid) if at_work(own, tmp_path))
        return len(begun) == 2

    wait_for(lambda: both_begun() and results() and max(rounds(), default=0) >= 3)
    workers = workers_of(started.pid)
    started.kill()
    started.wait()
    assert len(workers) == 2
    wait_for(lambda: all(state_of(pid)[0] == "Z" for pid in workers), 5)
    finished = {name: (tmp_path / name).stat().st_ino for name in results()}
    kept = sum(rounds())
    assert 1 <= len(finished) < 4

    trained: list[int] = []
    original = Round.close
    monkeypatch.setattr(Round, "close", lambda now: trained.append(1) or original(now))
    resumed = small_study(rounds=20).run(directory=tmp_path, compare_solvers=False)
    assert len(trained) == 20 * (4 - len(finished)) - kept
    assert {name: (tmp_path / name).stat().st_ino for name in finished} == finished
    assert not list(tmp_path.glob("*-rounds")), "what a finished run kept is removed"
    whole = small_study(rounds=20).run(compare_solvers=False)
    for own, other in zip(whole.outcomes, resumed.outcomes, strict=True):
        assert np.array_equal(own.history.test_accuracy, other.history.test_accuracy)
        assert np.array_equal(own.history.train_loss, other.history.train_loss)
        assert all(
            torch.equal(weight, other.history.weights[name])
            for name, weight in own.history.weights.items()
        )


@pytest.mark.parametrize("workers", some_nightly([1, 2], [2]))
def test_ctrl_c_in_the_command_line_says_how_to_go_on(tmp_path: Path, workers: int) -> None:
    with (tmp_path / "texts.csv").open("w", encoding="utf-8") as file:
        file.write("text,client\n")
        file.writelines(f"one two w{n},{n % 3}\n" for n in range(30))
    command = [sys.executable, "-c", QUICK + "from hasa_opt.cli import main; main()"]
    command += ["study", "--data", "texts.csv", "--hidden", "8", "--embedding", "4"]
    command += ["--policies", "uniform,uniform+selective", "--seeds", "1", "--rounds", "500"]
    command += ["--workers", str(workers)]
    started = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    begun = "study/runs/*-rounds/round-000002"
    wait_for(lambda: list(tmp_path.glob(begun)) or started.poll() is not None)
    os.killpg(started.pid, signal.SIGINT)
    errors = started.communicate(timeout=60)[1]
    assert started.returncode == 130
    assert "Traceback" not in errors
    assert "interrupted; the same command goes on where it was, from study/runs" in errors
    assert ("The round is finished and stored first" in errors) == (workers == 1)
    assert list(tmp_path.glob("study/runs/*-rounds/round-*"))


@pytest.mark.parametrize("workers", [1, 2])
def test_rounds_are_told_from_every_process(tmp_path: Path, workers: int) -> None:
    how = {"directory": tmp_path, "compare_solvers": False}
    told: list[tuple[int, int]] = []
    small_study(workers).run(**how, on_round=lambda *step: told.append(step))
    assert told[-1] == (8, 8)
    assert told == sorted(set(told))
    told.clear()
    small_study(workers).run(**how, on_round=lambda *step: told.append(step))
    assert told[-1] == (8, 8)
    assert {finished for finished, _ in told} <= {0, 2, 4, 6, 8}, "stored runs count as a whole"


def test_study_with_faults_and_sampled_clients(tmp_path: Path) -> None:
    failing = federated.Participation(clients_per_round=3, faults=federated.Faults(dropout=0.3))
    options = {"participation": failing, "seeds": (0,), "rounds": 4}
    studied = small_study(**options).run(directory=tmp_path, compare_solvers=False)
    dropped = [{(e.round, e.client) for e in own.history.events} for own in studied.outcomes]
    assert dropped[0]
    assert dropped[0] == dropped[1], "the same clients fail under every policy"
    assert all(np.isfinite(row.mean) for row in studied.summary())
    assert "which they did not" in str(studied.table().caption)
    report = studied.report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Not all clients took part" in report
    (tmp_path / "report.html").unlink()
    stored = small_study(**options).run(directory=tmp_path, compare_solvers=False)
    assert stored.outcomes[0].history.events == studied.outcomes[0].history.events
    assert len(list(tmp_path.iterdir())) == 2
    with pytest.raises(hasa.InputError, match="clients_per_round = 5"):
        small_study(participation=federated.Participation(clients_per_round=5))


@pytest.mark.parametrize(
    "change",
    [
        {"rounds": 3},
        {"training": federated.LocalTraining(learning_rate=0.01)},
        {"budget": 0.4},
    ],
)
def test_stored_run_of_another_setting_is_not_taken(
    tmp_path: Path, change: dict[str, object]
) -> None:
    how = {"compare_solvers": False}
    small_study(seeds=(0,)).run(directory=tmp_path, **how)
    fresh = small_study(seeds=(0,), **change).run(**how)
    resumed = small_study(seeds=(0,), **change).run(directory=tmp_path, **how)
    for own, other in zip(fresh.outcomes, resumed.outcomes, strict=True):
        assert np.array_equal(own.history.train_loss, other.history.train_loss)


def test_stored_run_of_an_equal_model_with_another_activation_is_not_taken(tmp_path: Path) -> None:
    def losses(activation: nn.Module) -> np.ndarray:
        module = nn.Sequential(nn.Linear(6, 8), activation, nn.Linear(8, 3))
        model = Supernet(module, torch.randn(2, 6))
        study = Study(blobs(), model, policies=("uniform",), seeds=(0,), rounds=1)
        done = study.run(directory=tmp_path, compare_solvers=False)
        return done.outcomes[0].history.train_loss

    first = losses(nn.ReLU())
    assert np.array_equal(losses(nn.ReLU()), first)
    assert not np.array_equal(losses(nn.Tanh()), first)


def test_another_study_in_the_same_folder_keeps_the_runs_of_the_first(tmp_path: Path) -> None:
    how = {"directory": tmp_path, "compare_solvers": False}
    small_study(seeds=(0,)).run(**how)
    small_study(seeds=(0,), rounds=3).run(**how)
    kept = [federated.History.load(place).rounds for place in tmp_path.glob("uniform-seed0-*")]
    assert sorted(kept) == [2, 3]


def test_damaged_stored_run_is_trained_again(done: Study, tmp_path: Path) -> None:
    how = {"directory": tmp_path, "compare_solvers": False}
    small_study().run(**how)
    (stored,) = tmp_path.glob("uniform-seed0-*")
    (stored / "rounds-000000.safetensors").write_bytes(b"broken")
    again = small_study().run(**how)
    own, other = done.outcomes[0].history, again.outcomes[0].history
    assert np.array_equal(own.test_accuracy, other.test_accuracy)


def test_csv_holds_every_measurement(done: Study, tmp_path: Path) -> None:
    done.to_csv(tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 * 4
    last = rows[-1]
    history = done.outcomes[-1].history
    assert (last["policy"], last["seed"], last["round"], last["client"]) == (
        "reverse",
        "1",
        "2",
        "d",
    )
    assert float(last["test_accuracy"]) == history.test_accuracy[-1, -1]
    assert int(last["flops"]) == history.flops[-1, -1]


def test_the_summary_is_rebuilt_from_a_file(done: Study, tmp_path: Path) -> None:
    done.write_results(tmp_path / "clients.csv")
    again = read_results(tmp_path / "clients.csv")
    assert str(summarise(again, done.budget)) == str(done.summary())
    assert np.array_equal(again.own[1, 0], done.outcomes[2].own)
    assert again.trained[1, 1] == pytest.approx(done.outcomes[3].history.mean_width.mean(axis=0))
    assert again.flops.sum() == sum(own.history.flops.sum() for own in done.outcomes)
    wider = again.peak.max(axis=(1, 2))
    assert (np.diff(again.memory[:, 0]) > 0) == (np.diff(wider) > 0), "wider takes more memory"


def test_tables_show_each_policy_and_client(done: Study) -> None:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(done.table(), done.allocation_table())
    text = console.export_text()
    for word in ("uniform", "reverse", "[c]", "realised budget", "worst third"):
        assert word in text


@pytest.mark.parametrize(
    ("name", "panels"),
    [
        ("overview", 3),
        ("allocation", 1),
        ("differences", 2),  # what clients deploy, and the full supernet
        ("by_client", 1),
        ("by_round", 2),  # validation and test
    ],
)
def test_figures_are_drawn_by_name(done: Study, name: str, panels: int) -> None:
    assert [axes.has_data() for axes in done.plot(name).axes] == [True] * panels


def test_a_figure_that_is_not_known_names_those_that_are(done: Study) -> None:
    with pytest.raises(hasa.InputError, match=r"figure 'magic' is not known.*by_round"):
        done.plot("magic")
    with pytest.raises(hasa.InputError, match=r"call run\(\) first"):
        small_study().plot()


def test_record_is_ready_for_json(done: Study) -> None:
    record = done.record()
    assert set(record["widths"]) == {"uniform", "reverse"}
    assert [row["policy"] for row in record["summary"]] == ["uniform", "reverse"]
    assert done.comparison is not None
    assert {row["solver"] for row in record["comparison"]} >= {"greedy", "highs"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"policies": ("uniform", "best")}, "policy 'best' is not known"),
        ({"policies": ()}, "policies is empty"),
        ({"seeds": ()}, "seeds is empty"),
        ({"seeds": (1, 1)}, "repeat a value"),
        ({"score": "magic"}, "score 'magic' is not known"),
        ({"widths": (0.5, 0.2)}, "increase strictly"),
        ({"policies": (1,)}, "policy 1 is neither a name nor a Policy"),
        ({"policies": None}, "policies None is not a sequence"),
        ({"policies": ("uniform+selective+full",)}, "overrides another one"),
        ({"policies": ("hasa+n^0.5+personal", "hasa+personal+n^0.5")}, "are the same"),
        ({"seeds": 3}, "seeds 3 is not a sequence"),
        ({"seeds": ([1],)}, "seed"),
        ({"widths": 0.5}, "widths 0.5 is not a sequence"),
        ({"budget": "0.5"}, "budget '0.5' must be a finite number"),
        ({"budget": 0.9}, r"budget 0.9 is above the widest possible allocation \(0.8\)"),
        ({"max_width": (0.5, 0.5, 0.3, 0.5)}, "above the widest possible allocation"),
        ({"max_width": (0.5, 0.5)}, "max_width"),
        ({"training": {"epochs": 2}}, r"give a hasa_opt\.federated\.LocalTraining"),
        ({"evaluation": federated.Evaluation(on="personal")}, r'such as "uniform\+personal"'),
        (
            {"participation": federated.Participation(faults=federated.Faults(absent=(9,)))},
            "names client 9",
        ),
        (
            {
                "rounds_by": "validation",
                "participation": federated.Participation(clients_per_round=3),
            },
            "only the last round measures all",
        ),
    ],
)
def test_bad_settings_are_refused_at_once(change: dict[str, object], words: str) -> None:
    with pytest.raises(hasa.InputError, match=words):
        small_study(**change)


def test_numbers_of_numpy_are_numbers(done: Study) -> None:
    study = small_study(seeds=np.arange(2), rounds=np.int64(2), budget=np.float32(0.5))
    study = study.run(compare_solvers=False)
    assert np.array_equal(study.results.own, done.results.own)


def test_a_study_tells_its_optimizers_and_finds_its_runs_again(tmp_path: Path) -> None:
    def study(momentum: float) -> Study:
        training = federated.LocalTraining(
            optimizer=partial(torch.optim.SGD, momentum=momentum),
            schedule=federated.StepDecay(at=(1,)),
            clip_norm=1.0,
            proximal=0.1,
        )
        server = federated.Server(optimizer=partial(torch.optim.SGD, lr=0.5))
        given = small_study(2, seeds=[0], training=training, server=server)
        return given.run(directory=tmp_path, compare_solvers=False)

    told = study(0.9).description
    assert told["Optimiser"] == (
        "SGD(momentum=0.9), learning rate 0.02, times StepDecay(at=(1,), factor=0.1), "
        "gradients clipped to 1, proximal 0.1"
    )
    assert told["Aggregation"].endswith(", stepped by SGD(lr=0.5)")
    stored = {path.name for path in tmp_path.iterdir()}
    study(0.9)
    assert {path.name for path in tmp_path.iterdir()} == stored
    study(0.8)
    assert len(list(tmp_path.iterdir())) == 2 * len(stored)


def test_devices_cap_what_every_policy_trains() -> None:
    caps = [0.8, 0.3, 0.4, 0.8]
    study = small_study(max_width=caps, budget=0.35)
    for policy in ("uniform", "reverse", "optimal", "capacity", "fjord", "heterofl"):
        assert (study.allocate(policy) <= caps).all(), policy
    assert not np.array_equal(study.allocate("capacity"), study.allocate("uniform"))
    assert study.description["Caps"] == "given"


def test_what_cannot_be_met_is_refused_before_a_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hasa_opt.study.planner.probe", lambda *_, **__: pytest.fail("probed"))
    study = small_study(policies=("uniform", "covered", "measured"), widths=(0.2, 1), budget=0.25)
    with pytest.raises(hasa.InfeasibleError):
        study.run(compare_solvers=False)
    taken = tmp_path / "taken"
    taken.write_text("")
    measured = small_study(policies=("uniform", "measured"))
    with pytest.raises(hasa.errors.StorageError, match="cannot be made"):
        measured.run(directory=taken)


def test_files_that_cannot_be_written_are_named(done: Study, tmp_path: Path) -> None:
    for write in (done.to_csv, done.write_results, done.report):
        with pytest.raises(hasa.InputError, match="create it first"):
            write(tmp_path / "none" / "file")
        with pytest.raises(hasa.InputError, match="is a folder"):
            write(tmp_path)


def test_a_study_without_test_data_has_a_report(tmp_path: Path) -> None:
    task = blobs()
    blank = tuple(Split(own.inputs, torch.full_like(own.targets, -100)) for own in task.test)
    study = replace(small_study(), task=replace(task, test=blank))
    study = study.run(compare_solvers=False)
    assert "nothing can be compared" in study.report(tmp_path / "report.html").read_text("utf-8")


def test_budget_below_the_menu_is_refused_at_once() -> None:
    with pytest.raises(hasa.InfeasibleError, match=r"budget 0\.1 is below"):
        small_study(budget=0.1)


def test_results_before_run_are_refused() -> None:
    with pytest.raises(hasa.InputError, match=r"call run\(\) first"):
        small_study().summary()


def test_language_model_study_runs() -> None:
    rng = np.random.default_rng(0)

    def split(size: int) -> Split:
        tokens = torch.tensor(rng.integers(2, 12, size=(size, 6)))
        return Split(tokens[:, :-1], tokens[:, 1:])

    train = (split(20), split(9))
    task = Task(
        "words",
        ("x", "y"),
        train,
        (split(4), split(4)),
        (split(5), split(5)),
        np.stack([np.bincount(part.inputs.flatten(), minlength=12) for part in train]),
        12,
    )
    model = LSTMLanguageModel(12, embedding=8, hidden=16)
    study = Study(task, model, policies=("uniform", "optimal"), seeds=(0,), rounds=1)
    study = study.run(compare_solvers=False)
    assert all(abs(row.realised - 0.5) < 0.05 for row in study.summary())
