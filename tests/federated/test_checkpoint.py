"""Checkpoints: a run that is killed, interrupted or out of disk goes on with the same bits."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import TIMES, environment, killed_runs
from support.killed_runs import digest, split, stored, task, train
from torch import nn

import hasa_opt
from hasa_opt import models
from hasa_opt.errors import HasaError, InputError, StorageError
from hasa_opt.federated import (
    Checkpoint,
    Faults,
    History,
    LocalTraining,
    Participation,
    Server,
    checkpoint,
    run,
)
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)
pytestmark = pytest.mark.filterwarnings("ignore:round .* no update was left")


class Stopped(Exception):
    """Ends a run from the inside."""


def stop_after(rounds: int):
    def on_round(number: int, row: object) -> None:
        if number + 1 == rounds:
            raise Stopped

    return on_round


@pytest.fixture(scope="module")
def expected() -> str:
    return digest(train(None))


@pytest.fixture(scope="module")
def four_rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("runs") / "four"
    with pytest.raises(Stopped):
        train(place, on_round=stop_after(4))
    return place


@pytest.fixture
def place(four_rounds: Path, tmp_path: Path) -> Path:
    """The checkpoints of a run of six rounds that was stopped after four."""
    return Path(shutil.copytree(four_rounds, tmp_path / "run"))


# -------------------------------------------------------------------------------------- killed


@pytest.fixture(scope="module")
def killed() -> Iterator[dict]:
    """What the scenarios of ``killed_runs.py`` found, in a process of their own."""
    memory = Path("/dev/shm")  # Where there is one: waiting for the disk takes most of the time.
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as place:
        yield found_in(place)


def found_in(place: str) -> dict:
    command = [sys.executable, killed_runs.__file__, place]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment())
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.slow
@pytest.mark.fuzz
def test_kill_9_at_random_instants_changes_no_bit(killed: dict) -> None:
    found = killed["random_instants"]
    assert found["equal"] == [True] * killed_runs.INSTANTS
    assert len(set(found["reached"])) >= 2, "the instants are spread over the run"


@pytest.mark.slow
@pytest.mark.fuzz
def test_kill_9_at_operations_on_files_changes_no_bit(killed: dict) -> None:
    """At every one of them in the nightly tests, at every fourth else."""
    found = killed["every_operation"]
    assert min(found["kills"].values()) * killed_runs.STEP >= 10
    assert found["equal"] == [True] * (sum(found["kills"].values()) + 2)


@pytest.mark.slow
def test_ctrl_c_ends_the_round_and_the_second_one_ends_at_once(killed: dict) -> None:
    found = killed["interrupts"]
    once, twice = found["1"], found["2"]
    assert once["message"].startswith("round 2 of 3 is stored in ")
    assert once["message"].endswith("resume=True goes on")
    assert twice["message"] == ""
    assert once["rounds"] == 2
    assert twice["rounds"] == 1
    assert once["equal"]
    assert twice["equal"]
    assert once["handler restored"]
    assert twice["handler restored"]
    assert twice["seconds"] < once["seconds"]


@pytest.mark.slow
def test_training_imports_no_compiler(killed: dict) -> None:
    """That of torch takes a second to import, in every process that trains."""
    assert not killed["compiler"]


# ------------------------------------------------------------------------------------- resumed


def test_stopped_run_goes_on_where_it_was(place: Path, expected: str) -> None:
    rounds: list[int] = []
    done = train(place, on_round=lambda number, row: rounds.append(number))
    assert rounds == [4, 5]
    assert digest(done) == expected
    assert stored(place) == ["round-000005", "round-000006"]
    assert History.load(place / "round-000006").final_accuracy.shape == (4,)


def test_finished_run_trains_nothing_again(place: Path, expected: str, monkeypatch) -> None:
    train(place)
    monkeypatch.setattr("hasa_opt.federated.local.local_train", None)
    assert digest(train(place)) == expected


def test_checkpoint_is_a_history_and_holds_no_pickle(place: Path, expected: str) -> None:
    so_far, full = History.load(place / "round-000004"), train(None)
    assert so_far.rounds == 4
    np.testing.assert_array_equal(so_far.train_loss, full.train_loss[:4])
    assert so_far.events == tuple(event for event in full.events if event.round < 4)
    endings = {path.suffix for path in place.rglob("*") if path.is_file() and path.name != ".lock"}
    assert endings == {".json", ".safetensors"}


def test_more_rounds_may_be_asked_for(tmp_path: Path) -> None:
    train(tmp_path, rounds=2, participation=Participation())
    longer = train(tmp_path, rounds=4, participation=Participation())
    assert digest(longer) == digest(train(None, rounds=4, participation=Participation()))
    assert longer.metadata["rounds"] == 4
    with pytest.raises(InputError, match="holds 4 rounds, but rounds = 3"):
        train(tmp_path, rounds=3, participation=Participation())


def test_resume_without_a_checkpoint_begins(tmp_path: Path, expected: str) -> None:
    assert digest(train(tmp_path / "new")) == expected


def test_checkpoints_in_another_thread_work(tmp_path: Path, expected: str) -> None:
    found: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: found.append(digest(train(tmp_path / "new"))))
    thread.start()
    thread.join()
    assert found == [expected]
    assert signal.getsignal(signal.SIGINT) is before


def test_handler_of_the_caller_is_left_alone(tmp_path: Path) -> None:
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: pressed.append(number))
    try:
        train(tmp_path, rounds=2, on_round=lambda *_: os.kill(os.getpid(), signal.SIGINT))
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [signal.SIGINT] * 2


# ------------------------------------------------------------------------------------- damaged


def boundaries(path: Path) -> set[int]:
    """Lengths at which a file can be cut: its ends, its parts, and within them."""
    size = path.stat().st_size
    lengths = {0, 1, size // 2, size - 2}
    if path.suffix == ".safetensors":
        header = int.from_bytes(path.read_bytes()[:8], "little")
        lengths |= {7, 8, 8 + header // 2, 8 + header, 8 + header + 1}
    return lengths


@pytest.mark.parametrize(
    "name", ["history.json", "rounds-000003.safetensors", "weights.safetensors"]
)
def test_damaged_newest_checkpoint_gives_way_to_the_one_before(
    place: Path, expected: str, name: str
) -> None:
    path = place / "round-000004" / name
    whole = path.read_bytes()
    settings = History.load(place / "round-000003").metadata
    widths = np.array([0.5, 0.25, 1.0, 0.75])
    flipped = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(9, 900, 97)]
    for content in [*(whole[:length] for length in boundaries(path)), *flipped]:
        path.write_bytes(content)
        with (
            checkpoint.Checkpoints.open(place, resume=True) as store,
            pytest.warns(UserWarning, match="going on after round 3"),
        ):
            assert store.newest(settings, widths).rounds == 3
    with pytest.warns(UserWarning, match="passed over a damaged checkpoint"):
        assert digest(train(place)) == expected
    assert stored(place) == ["round-000005", "round-000006"]


def test_file_that_cannot_be_read_counts_as_damage(
    place: Path, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, read = place / "round-000004" / "weights.safetensors", Path.read_bytes

    def fail(path: Path) -> bytes:
        if path == broken:
            raise PermissionError(13, "denied")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.warns(UserWarning, match="denied.*going on after round 3"):
        assert digest(train(place)) == expected


def test_missing_file_counts_as_damage(place: Path, expected: str) -> None:
    (place / "round-000004" / "weights.safetensors").unlink()
    with pytest.warns(UserWarning, match=r"has no weights\.safetensors"):
        assert digest(train(place)) == expected


def test_without_a_whole_checkpoint_there_is_an_error(place: Path) -> None:
    for number in (3, 4):
        (place / f"round-00000{number}" / "history.json").write_text("{")
    with pytest.raises(InputError, match=r"no whole checkpoint.*delete it to start"):
        train(place)


# ------------------------------------------------------------------------------------- foreign


def other_data() -> Task:
    """The same names, sizes and counts, and other samples."""
    mine = task()
    return replace(mine, test=tuple(split(9, 99 + client) for client in range(4)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"training": LocalTraining(learning_rate=0.05)},
            r"training\.learning_rate 0\.02, not 0\.05",
        ),
        (
            {"training": LocalTraining(optimizer="sgd")},
            r"training\.optimizer 'adam', not 'sgd'",
        ),
        ({"seed": 4}, "seed 3, not 4"),
        (
            {"participation": Participation(clients_per_round=2, faults=Faults(0.2, 0.1, 0.2))},
            r"participation\.clients_per_round 3, not 2",
        ),
        (
            {"server": Server(max_update_norm=None)},
            r"server\.max_update_norm 1000000\.0, not None",
        ),
        (
            {"participation": Participation(clients_per_round=3, faults=Faults())},
            r"participation\.faults .*'dropout': 0\.2.*, not .*'dropout': 0\.0",
        ),
        (
            {"server": Server(aggregation="selective")},
            r"server\.aggregation 'full', not 'selective'",
        ),
        ({"data": other_data()}, "data sha256"),
        ({"data": replace(task(), fingerprint={"of": "2027"})}, "fingerprint {}, not"),
        ({"widths": [0.5, 0.25, 1.0, 0.5]}, r"widths .*0\.75\], not .*0\.5\]"),
        ({"model": models.fresh(models.MLP(6, 3, (12, 9)), 1)}, "sizes .*8.*, not .*9"),
        ({"model": models.fresh(models.MLP(6, 3, (12, 8)), 2)}, "initial weights sha256"),
    ],
)
def test_checkpoint_of_another_run_is_refused(
    place: Path, expected: str, change: dict, words: str
) -> None:
    with pytest.raises(InputError, match=f"round-000004 is of another run, with {words}"):
        train(place, **change)
    assert stored(place) == ["round-000003", "round-000004"]
    assert digest(train(place)) == expected


@pytest.mark.parametrize("traced", [False, True])
def test_checkpoint_of_an_equal_model_with_other_dropout_is_refused(
    tmp_path: Path, traced: bool
) -> None:
    tokens = torch.arange(2, 18).reshape(2, 8)
    splits = (Split(tokens, tokens),)
    data = Task("text", ("only",), splits, splits, splits, np.ones((1, 20), dtype=int), 20)

    def model(dropout: float) -> models.SupernetModel:
        torch.manual_seed(0)
        if traced:
            layers = nn.Embedding(20, 4), nn.Dropout(dropout), nn.Linear(4, 8), nn.Linear(8, 20)
            return models.Supernet(nn.Sequential(*layers), tokens)
        return models.LSTMLanguageModel(20, 4, 4, dropout=dropout)

    settings = {"rounds": 1, "checkpoint": Checkpoint(tmp_path, resume=True)}
    run(model(0.1), data, [1.0], **settings)
    run(model(0.1), data, [1.0], **settings)
    with pytest.raises(InputError, match="of another run, with architecture sha256"):
        run(model(0.9), data, [1.0], **settings)


def test_checkpoint_with_weights_of_another_shape_is_refused(place: Path) -> None:
    last = place / "round-000004"
    history = History.load(last)
    replace(history, weights={name: t[:1].clone() for name, t in history.weights.items()}).save(
        last
    )
    with pytest.raises(InputError, match="holds the weights of another model"):
        train(place)


def test_existing_checkpoints_are_not_overwritten(place: Path) -> None:
    with pytest.raises(InputError, match=r"a checkpoint of 4 round\(s\): go on .* resume=True"):
        train(place, checkpoint=Checkpoint(place))
    assert stored(place) == ["round-000003", "round-000004"]


def test_directory_of_other_things_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").touch()
    for resume in (False, True):
        with pytest.raises(InputError, match=r"holds cat\.jpg, which is not a checkpoint"):
            train(tmp_path, checkpoint=Checkpoint(tmp_path, resume))
    assert (tmp_path / "cat.jpg").exists()


LITTER = st.sampled_from(
    [
        ".DS_Store",
        "Thumbs.db",
        "desktop.ini",
        "ehthumbs.db",
        ".directory",
        "lost+found",
        "@eaDir",
        ".AppleDouble",
    ]
)


@pytest.mark.fuzz
@settings(
    max_examples=3 * TIMES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    litter=st.sets(
        LITTER
        | st.from_regex(
            r"\._[a-z0-9-]{1,9}|\.(nfs|fuse_hidden)[0-9a-f]{8}|\.Trash-[0-9]{4}", fullmatch=True
        ),
        min_size=1,
    ),
    upper=st.booleans(),
    inside=st.booleans(),
)
def test_what_operating_systems_leave_in_folders_does_not_matter(
    four_rounds: Path, expected: str, litter: set[str], upper: bool, inside: bool
) -> None:
    with TemporaryDirectory() as folder:
        place = Path(shutil.copytree(four_rounds, Path(folder, "run")))
        for name in litter:
            (place / (name.upper() if upper else name)).write_bytes(b"\0")
            if inside:
                (place / "round-000004" / name).write_bytes(b"\0")
        assert digest(train(place)) == expected
        assert stored(place) == ["round-000005", "round-000006"]


def test_hidden_files_of_the_users_own_are_not_taken_for_litter(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").touch()
    with pytest.raises(InputError, match=r"holds \.gitignore, which is not a checkpoint"):
        train(tmp_path)


def test_a_checkpoint_names_the_versions_that_wrote_it(place: Path, expected: str) -> None:
    stored_by = {"hasa_opt": hasa_opt.__version__, "torch": torch.__version__}
    assert History.load(place / "round-000004").metadata["versions"] == stored_by
    last = History.load(place / "round-000004")
    older = last.metadata | {"versions": stored_by | {"torch": "1.0"}}
    replace(last, metadata=older).save(place / "round-000004")
    with pytest.warns(UserWarning, match=r"written with hasa_opt .* and torch 1\.0, and this is"):
        assert digest(train(place)) == expected


def test_a_list_is_no_task() -> None:
    splits = [split(9, 1), split(9, 2)]
    with pytest.raises(InputError, match=r"task is a list: give a hasa_opt\.tasks\.Task"):
        train(None, data=splits)  # type: ignore[arg-type]


def test_a_checkpoint_that_names_no_directory_is_refused() -> None:
    with pytest.raises(InputError, match=r"checkpoint is a bool: give a directory"):
        train(None, checkpoint=True)


def test_directory_in_use_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "_PATIENCE_S", 0.1)
    with (
        FileLock(place / ".lock"),
        pytest.raises(InputError, match="in use by another process"),
    ):
        train(place)


# ---------------------------------------------------------------------------------- full disks


def test_full_disk_is_an_error_that_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    model = models.fresh(models.MLP(6, 3, hidden=(200, 200)), 1)
    arguments = {"model": model, "rounds": 3, "participation": Participation()}
    place = tmp_path / "run"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(number: int, row: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))

    try:
        with pytest.raises(StorageError, match=r"round-000002 cannot be written .*too large"):
            train(place, on_round=fill, **arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in place.iterdir() if path.name != ".lock"] == ["round-000001"]
    assert digest(train(place, **arguments)) == digest(train(None, **arguments))


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_disk_that_fails_late_keeps_the_last_checkpoint(
    place: Path, expected: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync") if call == "fsync" else (Path, "rename")), full)
        with pytest.raises(StorageError, match=r"No space left on device.*is intact") as caught:
            train(place)
    assert isinstance(caught.value, HasaError)
    assert isinstance(caught.value, OSError)
    assert stored(place) == ["round-000003", "round-000004"]
    assert digest(train(place)) == expected


def test_place_that_cannot_be_made_is_refused_before_training(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("hasa_opt.federated.local.local_train", None)
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be made"):
        train(tmp_path / "file" / "run")


def test_run_without_a_checkpoint_stops_at_once(tmp_path: Path) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.raises(KeyboardInterrupt) as caught:
        train(None, on_round=lambda *_: signal.raise_signal(signal.SIGINT))
    assert str(caught.value) == ""


def test_weights_of_a_model_with_tied_tensors_are_stored(tmp_path: Path) -> None:
    """Safetensors refuses tensors that share memory."""

    class Tied(models.MLP):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments)  # type: ignore[arg-type]
            self.again = self.layers[0]

        def cuts(self):
            own = super().cuts()
            return own | {f"again.{end}": own[f"layers.0.{end}"] for end in ("weight", "bias")}

    model = models.fresh(Tied(6, 3, (8,)), 0)
    done = run(model, task(), [0.5, 0.5, 1.0, 1.0], rounds=1, checkpoint=tmp_path / "run")
    weights = History.load(tmp_path / "run" / "round-000001").weights
    assert torch.equal(weights["again.weight"], done.weights["layers.0.weight"])
