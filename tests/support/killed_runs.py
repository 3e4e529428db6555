"""Runs that are killed: forked from a process that has imported all that they need.

``python tests/killed_runs.py DIRECTORY`` prints what each scenario found, as JSON; see
``test_checkpoint.py``.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch

from hasa_opt import models
from hasa_opt.federated import (
    Checkpoint,
    Faults,
    History,
    LocalTraining,
    Participation,
    Server,
    StepDecay,
    history,
    run,
)
from hasa_opt.tasks import Lazy, Split, Task
from support import TIMES

ROUNDS = 6
INSTANTS = min(5 * TIMES, 20)
STEP = 4 if TIMES == 1 else 1
SIZES = (30, 20, 40, 25)
REPEATED = ("train_loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")


STEPPED = {
    "training": LocalTraining(
        optimizer=partial(torch.optim.SGD, momentum=0.9),
        schedule=StepDecay(at=(2, 4), factor=0.5),
        clip_norm=1.0,
        proximal=0.1,
    ),
    "server": Server(optimizer=partial(torch.optim.Adam, lr=0.05, eps=1e-3)),
}
"""A server with a state that the next round goes on from."""


def split(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (n,), generator=generator)
    return Split(torch.randn(n, 6, generator=generator) + targets[:, None], targets)


def task(delay_s: float = 0.0) -> Task:
    """Four clients; each training split takes ``delay_s`` to load."""

    def load(client: int) -> Split:
        time.sleep(delay_s)
        return split(SIZES[client], client)

    held_out = (tuple(split(9, 10 * part + client) for client in range(4)) for part in (1, 2))
    counts = np.ones((4, 3), dtype=np.int64)
    return Task("toy", tuple("abcd"), Lazy(SIZES, load), *held_out, counts=counts, n_outputs=3)


def train(
    directory: Path | None,
    *,
    model: models.SupernetModel | None = None,
    data: Task | None = None,
    widths: Sequence[float] = (0.5, 0.25, 1.0, 0.75),
    **options: object,
) -> History:
    """The run that is killed, with sampled clients and faults."""
    settings = {
        "rounds": ROUNDS,
        "participation": Participation(clients_per_round=3, faults=Faults(0.2, 0.1, 0.2)),
        "seed": 3,
    }
    if model is None:
        model = models.fresh(models.MLP(6, 3, hidden=(12, 8)), seed=1)
    place = {} if directory is None else {"checkpoint": Checkpoint(directory, resume=True)}
    return run(
        model,
        data or task(),
        widths,
        **settings | place | options,
    )  # type: ignore[arg-type]


def digest(done: History) -> str:
    """Of everything but the seconds."""
    total = hashlib.sha256()
    for name in (*REPEATED, "bytes_up", "bytes_down", "flops"):
        total.update(getattr(done, name).tobytes())
    for name, weights in sorted((done.weights | done.clients).items()):
        total.update(name.encode() + weights.numpy().tobytes())
    total.update(repr((done.events, sorted(done.metadata))).encode())
    return total.hexdigest()


def stepped(directory: Path | None) -> str:
    """Digest of a run whose server has a state."""
    return digest(train(directory, **STEPPED))


def fork(work: Callable[[], object]) -> int:
    """Start a child that does the work and says nothing."""
    if (child := os.fork()) == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def outcome(work: Callable[[], str], place: Path) -> str:
    """What the work returned in a child of its own."""
    assert os.waitpid(fork(lambda: place.write_text(work())), 0)[1] == 0
    return place.read_text()


def stored(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("round-*"))


def random_instants(directory: Path) -> dict[str, object]:
    """Kill runs, each at a random instant, and let each go on to its end."""
    expected = outcome(lambda: stepped(None), directory / "digest")
    began = time.perf_counter()
    assert outcome(lambda: stepped(directory / "kept"), directory / "digest") == expected
    seconds = time.perf_counter() - began
    rng = np.random.default_rng(0)
    equal: list[bool] = []
    reached: list[int] = []
    while len(equal) < INSTANTS:
        place = directory / f"killed-{len(equal)}-{rng.integers(2**32)}"
        child = fork(lambda place=place: stepped(place))
        time.sleep(rng.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        if os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            reached.append(max((int(name[-6:]) for name in stored(place)), default=0))
            again = outcome(lambda place=place: stepped(place), directory / "digest")
            equal.append(again == expected)
    return {"equal": equal, "reached": reached}


def every_operation(directory: Path) -> dict[str, object]:
    """Kill the first and the third round at their operations on files, every ``STEP``-th."""
    two = directory / "two"
    with suppress(ZeroDivisionError):
        train(two, rounds=3, on_round=lambda number, row: 1 // (1 - number))
    kills = {"first": 0, "third": 0}
    equal: list[bool] = []
    for which, rounds in (("first", 1), ("third", 3)):
        expected = digest(train(None, rounds=rounds))
        died = True
        while died:
            at = kills[which] * STEP
            place = directory / f"{which}-{at}"
            if which == "third":
                shutil.copytree(two, place)
            child = fork(lambda place=place, at=at, n=rounds: dying(place, at, n))
            died = os.WIFSIGNALED(os.waitpid(child, 0)[1])
            equal.append(digest(train(place, rounds=rounds)) == expected)
            assert not list(place.glob(".round-*")), "an unfinished checkpoint is left"
            kills[which] += died
    return {"equal": equal, "kills": kills}


def dying(place: Path, at: int, rounds: int) -> None:
    """Train, and die at an operation on files in the directory of checkpoints.

    Files that are written are cut to half their length when the process dies after them.
    """
    seen = 0

    def step(half: Path | None = None) -> None:
        nonlocal seen
        if seen == at:
            if half is not None and half.is_file():
                os.truncate(half, half.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        watched = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir")
        if event in watched and any(str(place) in str(argument) for argument in arguments[:2]):
            step()

    def halved(write: Callable[..., object], which: int) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            result = write(*arguments, **options)
            step(Path(str(arguments[which])))
            return result

        return call

    history.save_file = halved(history.save_file, 1)  # type: ignore[attr-defined]
    saved = history.safetensors.numpy.save_file  # type: ignore[attr-defined]
    history.safetensors.numpy.save_file = halved(saved, 1)  # type: ignore[attr-defined]
    Path.write_text = halved(Path.write_text, 0)  # type: ignore[method-assign,assignment]
    sys.addaudithook(audit)
    train(place, rounds=rounds)


def interrupts(directory: Path) -> dict[str, object]:
    """Press Ctrl-C once, and twice, in a round of at least 1.2 s."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    slow = task(delay_s=0.3)
    expected = outcome(
        lambda: digest(train(None, rounds=3, participation=Participation(clients_per_round=4))),
        directory / "digest",
    )
    found: dict[str, object] = {}
    for presses in (1, 2):
        place = directory / f"pressed-{presses}"
        told = directory / f"told-{presses}"

        def work(place: Path = place, told: Path = told) -> None:
            try:
                train(place, data=slow, rounds=3, participation=Participation(clients_per_round=4))
            except KeyboardInterrupt as error:
                usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
                told.write_text(json.dumps([str(error), usual]))

        child = fork(work)
        while not stored(place):
            time.sleep(0.01)
        time.sleep(0.2)
        began = time.perf_counter()
        for _ in range(presses):
            os.kill(child, signal.SIGINT)
            time.sleep(0.2)  # Two that come at once count as one.
        os.waitpid(child, 0)
        seconds = time.perf_counter() - began
        rounds = len(stored(place))
        message, usual = json.loads(told.read_text())
        again = outcome(
            lambda p=place: digest(
                train(p, rounds=3, participation=Participation(clients_per_round=4))
            ),
            directory / "digest",
        )
        found[str(presses)] = {
            "seconds": seconds,
            "rounds": rounds,
            "message": message,
            "handler restored": usual,
            "equal": again == expected,
        }
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    train(None, rounds=1)  # What torch imports late, it imports once.
    scenarios = (random_instants, every_operation, interrupts)
    places = {scenario: Path(sys.argv[1], scenario.__name__) for scenario in scenarios}
    for place in places.values():
        place.mkdir()
    found = {work.__name__: work(place) for work, place in places.items()}
    models.training_flops(
        models.LSTMLanguageModel(9, 4, 4), 0.5, torch.ones(2, 3, dtype=torch.long)
    )
    print(json.dumps(found | {"compiler": "torch._dynamo" in sys.modules}))
