"""How the scenarios reach the library: adapters, small inputs, and what is kept of an answer.

All that is trained goes through :func:`train`, :func:`study` and :func:`faults`, whose keywords are
flat: where the API groups them otherwise, these change, and no scenario.
"""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import math
import os
import random
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn

import hasa_opt as hasa
from hasa_opt import federated, models, tasks

torch.set_num_threads(1)

ROOT = Path(__file__).parent.parent.parent
WIDTHS = (0.2, 0.35, 0.5, 0.65, 0.8)

# ------------------------------------------------------------------------------------- adapters


GROUPS = {
    "training": (
        federated.LocalTraining,
        "epochs batch_size learning_rate optimizer scaler batch_norm output_bias",
    ),
    "server": (federated.Server, "aggregation weight_power max_update_norm"),
    "evaluation": (federated.Evaluation, "on also also_after interpolation"),
    "participation": (federated.Participation, "clients_per_round faults"),
    "execution": (federated.Execution, "engine executor workers"),
}
RENAMED = {
    "local_epochs": "epochs",
    "max_norm": "max_update_norm",
    "evaluate": "on",
    "mix": "interpolation",
    "sample": "clients_per_round",
}


def train(
    model: models.SupernetModel,
    task: tasks.Task,
    allocation: Sequence[float],
    *,
    rounds: int = 3,
    seed: int = 3,
    batch_size: int = 8,
    **keywords: Any,
) -> federated.History:
    """Run the federated loop; the only place that calls it."""
    flat = {"batch_size": batch_size, **keywords}
    if flat.pop("deploy", "global") == "personal":
        flat["on"] = "personal"
    also = flat.pop("other_deployments", "never")
    if also != "never":
        flat |= {"also": ("supernet", "personal"), "also_after": also}
    flat = {RENAMED.get(name, name): value for name, value in flat.items()}
    subnets = federated.Subnets(
        allocation, flat.pop("scheme", "prefix"), flat.pop("mean_widths", None)
    )
    place, resume = flat.pop("checkpoint", None), flat.pop("resume", False)
    groups = grouped(flat)
    return federated.run(
        model,
        task,
        subnets,
        rounds=rounds,
        seed=seed,
        checkpoint=None if place is None else federated.Checkpoint(place, resume),
        **groups,
        **flat,
    )


def grouped(flat: dict[str, Any]) -> dict[str, Any]:
    """Take the fields of settings objects out of flat keywords, and make these."""
    return {
        group: kind(**{name: flat.pop(name) for name in names.split() if name in flat})
        for group, (kind, names) in GROUPS.items()
    }


def study(task: tasks.Task, model: models.SupernetModel, **keywords: Any) -> hasa.Study:
    """Run a study in this process; the only place that makes one."""
    flat = {RENAMED.get(name, name): value for name, value in keywords.items()} | {"workers": 1}
    return hasa.Study(task, model, **grouped(flat), **flat).run(compare_solvers=False)


def faults(dropout: float, straggle: float, corrupt: float) -> federated.Faults:
    return federated.Faults(dropout=dropout, straggle=straggle, corrupt=corrupt)


# ---------------------------------------------------------------------------------- small inputs

SIZES = (40, 25, 60, 12)
ALLOCATION = (0.5, 1.0, 0.25, 0.5)


def _task(name: str, split: Callable[[int, int], tasks.Split], n_outputs: int) -> tasks.Task:
    parts = [
        tuple(split(max(6, size // share), 10 * client + part) for client, size in enumerate(SIZES))
        for part, share in enumerate((1, 4, 3))
    ]
    counts = np.array([[size - 3 * row, 3 * row + 1, 2] for row, size in enumerate(SIZES)])
    return tasks.Task(name, ("a", "b", "[c]", "d"), *parts, counts=counts, n_outputs=n_outputs)


def points() -> tasks.Task:
    def split(n: int, seed: int) -> tasks.Split:
        generator = torch.Generator().manual_seed(seed)
        targets = torch.randint(0, 3, (n,), generator=generator)
        centres = torch.eye(3).repeat(1, 2)
        return tasks.Split(centres[targets] + torch.randn(n, 6, generator=generator), targets)

    return _task("points", split, 3)


def images() -> tasks.Task:
    def split(n: int, seed: int) -> tasks.Split:
        generator = torch.Generator().manual_seed(seed)
        targets = torch.randint(0, 3, (n,), generator=generator)
        noise = torch.rand(n, 1, 8, 8, generator=generator)
        return tasks.Split(noise * (1 + targets[:, None, None, None]) / 3, targets)

    return _task("images", split, 3)


def counting() -> tasks.Task:
    """Sequences in which each token follows from the one before, with padding."""

    def split(n: int, seed: int) -> tasks.Split:
        generator = torch.Generator().manual_seed(seed)
        start = torch.randint(2, 11, (n, 1), generator=generator)
        tokens = (start - 2 + torch.arange(8)) % 9 + 2
        padding = torch.arange(7) >= torch.randint(2, 7, (n, 1), generator=generator)
        return tasks.Split(
            tokens[:, :-1].masked_fill(padding, 0), tokens[:, 1:].masked_fill(padding, -100)
        )

    return _task("counting", split, 11)


def mlp() -> models.SupernetModel:
    return models.fresh(models.MLP(6, 3, hidden=(16, 8)), seed=1)


def lstm() -> models.SupernetModel:
    return models.fresh(models.LSTMLanguageModel(11, embedding=8, hidden=12, dropout=0.2), seed=1)


def cnn() -> models.SupernetModel:
    return models.fresh(models.CNN(3, channels=(4, 8), image_size=8), seed=1)


def plain() -> models.SupernetModel:
    """A plain module that the library traces."""
    module = nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3))
    return models.fresh(models.Supernet(module, torch.zeros(2, 6)), seed=1)


def normalised() -> models.SupernetModel:
    """A plain convolutional module with BatchNorm."""
    module = nn.Sequential(
        *(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)),
    )
    return models.fresh(models.Supernet(module, torch.zeros(2, 1, 8, 8)), seed=1)


CLIENTS = """name,samples,max_width,count:cat,count:dog,count:bird
phone,120,0.5,100,20,0
laptop,80,1.0,10,70,3
[tablet],500,0.7,30,70,200
sensor,40,0.35,20,10,10
"""
UTILITIES = """name,0.2,0.5,0.8
phone,30,40,42
laptop,20,35,48
[tablet],33,34,35
sensor,10,22,26
"""
TOPICS = {
    "Deep Data": "model data network training layer loss graph sample",
    "Design Weekly": "button screen user color layout font grid icon",
    "Field Notes": "river stone forest winter walk bird map trail data user",
}


def _titles() -> str:
    """Titles of three publications, of 40, 30 and 20 rows."""
    draw = random.Random(5)
    rows = [
        f"{name},{' '.join(draw.choices(words.split(), k=draw.randint(3, 7)))}"
        for (name, words), count in zip(TOPICS.items(), (40, 30, 20), strict=True)
        for _ in range(count)
    ]
    return "\n".join(["publication,title", *rows]) + "\n"


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """Be in a new folder with the small files."""
    with TemporaryDirectory() as place, contextlib.chdir(place):
        for name, text in (("clients", CLIENTS), ("table", UTILITIES), ("titles", _titles())):
            Path(f"{name}.csv").write_text(text, encoding="utf-8")
        yield Path(place)


# --------------------------------------------------------------------------------- what is kept


def sha256(arrays: Sequence[Any]) -> str:
    total = hashlib.sha256()
    for array in arrays:
        total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()


def digest(done: federated.History) -> dict[str, Any]:
    """Bits of all that a run gives, but its seconds, and some numbers that a reader can compare."""
    measured = ("validation_accuracy", "test_accuracy", "supernet_accuracy", "personal_accuracy")
    states = {
        name: sha256([own[key].numpy(force=True) for key in sorted(own)])
        for name, own in (("weights", done.weights), ("clients", done.clients))
    }
    return states | {
        "accuracy": sha256([getattr(done, name) for name in measured]),
        "loss": sha256([done.train_loss, done.validation_loss, done.test_loss]),
        "costs": sha256([done.bytes_down, done.bytes_up, done.flops, done.mean_width]),
        "events": [[event.round, event.client, event.kind] for event in done.events],
        "rounds": done.rounds,
        "final accuracy": rounded(done.final_accuracy.tolist()),
        "final loss": rounded(done.test_loss[-1].tolist()),
    }


def rounded(value: Any) -> Any:
    """Leave clock times out, and the digits in which processors and solvers differ."""
    if isinstance(value, Mapping):
        return {key: rounded(own) for key, own in value.items() if "seconds" not in str(key)}
    if isinstance(value, (list, tuple)):
        return [rounded(own) for own in value]
    if isinstance(value, float):
        if not math.isfinite(value):
            return str(value)
        return 0.0 if abs(value) < 1e-12 else float(f"{value:.9g}")
    return value


def printed(text: str) -> list[str]:
    """Lines without their spacing, CPU seconds, and how the process was started."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)  # colours
    lines = [" ".join(re.sub("─+", "─", line).split()) for line in text.splitlines()]
    lines = [re.sub(r"^(Usage: |Try ').*?hasa-opt", r"\1hasa-opt", line) for line in lines]
    return [re.sub(r"\d+\.\d{3} (held|FALSE|-)$", r"S \1", line) for line in lines if line]


def table(path: str | Path) -> dict[str, Any]:
    content = Path(path).read_bytes()
    lines = list(csv.reader(io.StringIO(content.decode())))
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "columns": lines[0],
        "lines": len(lines) - 1,
    }


# --------------------------------------------------------------------------------- command line


def command(*arguments: object) -> tuple[int, str, str]:
    """Call the installed command in this process: exit code, standard output and error."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    module, _, function = declared["project"]["scripts"]["hasa-opt"].partition(":")
    call = getattr(import_module(module), function)
    before, out, err = (sys.argv, dict(os.environ)), io.StringIO(), io.StringIO()
    code = 0
    try:
        sys.argv = ["hasa-opt", *map(str, arguments)]
        for name in ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE"):
            os.environ.pop(name, None)
        os.environ.update({"COLUMNS": "140", "NO_COLOR": "1", "TERM": "dumb"})
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            call()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = before[0]
        os.environ.clear()
        os.environ.update(before[1])
    return code, out.getvalue(), err.getvalue()


def shown(*arguments: object) -> Any:
    """Exit code and output of a command; JSON is read."""
    code, out, err = command(*arguments)
    kept: dict[str, Any] = {"code": code}
    if "--json" in arguments and code == 0:
        kept["json"] = rounded(json.loads(out))
    else:
        kept["out"] = printed(out)
    if code:
        kept["err"] = printed(err)
    return kept


def both(*arguments: object) -> Any:
    """What a command prints, and its JSON."""
    return {"text": shown(*arguments), "json": shown(*arguments, "--json")}
