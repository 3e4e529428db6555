"""A user's own model, data, loss and options in the app that is generated, by editing one file."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr")

from support import environment
from support.flower_app import client, model
from support.flower_grid import LocalGrid
from typer.testing import CliRunner

from hasa_opt.cli import app
from hasa_opt.errors import InputError
from hasa_opt.federated import History
from hasa_opt.flower import Settings, serve

pytestmark = pytest.mark.slow

TASK = '''"""Prices by four features, with a network, a loss and options of my own."""

from functools import partial

import numpy as np
import torch
from torch import nn

from hasa_opt import models
from hasa_opt.federated import StepDecay
from hasa_opt.flower import Device
from hasa_opt.tasks import LearningProblem, Split


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.gate = nn.Linear(4, 12), nn.Linear(4, 12)
        self.price = nn.Linear(12, 1)

    def forward(self, features):
        return self.price(torch.relu(self.inner(features)) * torch.sigmoid(self.gate(features)))


def pinball(outputs, targets):
    off = targets - outputs[:, 0]
    return torch.maximum(0.9 * off, -0.1 * off).mean()


OPTIONS = {
    "rounds": 4,
    "batch_size": 16,
    "widths": "0.25 0.5 1",
    "optimizer": partial(torch.optim.SGD, momentum=0.9),
    "schedule": StepDecay(at=[2], factor=0.5),
    "server_optimizer": partial(torch.optim.SGD, lr=1.0, momentum=0.5),
    "learning_rate": 0.05,
}


def model():
    torch.manual_seed(0)
    return models.Supernet(Gated(), torch.zeros(2, 4))


def samples(number, size):
    rng = torch.Generator().manual_seed(number)
    features = torch.randn(size, 4, generator=rng)
    prices = features[:, 0] * features[:, 1].relu() + number / 10
    return Split(features, prices, pinball)


def device(partition, partitions):
    counts = np.bincount(np.arange(partition + 3) % 4, minlength=4)
    return Device(
        f"shop {partition}",
        samples(partition, 40),
        samples(100 + partition, 20),
        counts,
        problem=LearningProblem(pinball),
    )
'''

RUN = """
import sys, tomllib
from flwr.app import Context, RecordDict
from support.flower_grid import LocalGrid
import torch
torch.set_num_threads(1)
from supernet_app import client, server
project = tomllib.load(open("pyproject.toml", "rb"))["tool"]["flwr"]["app"]["config"]
config = {f"hasa.{name}": value for name, value in project["hasa"].items()}
config |= {"hasa.output": sys.argv[1], "hasa.clients": 3}
server.app(LocalGrid(client.app, range(3)), Context(1, 1, {}, RecordDict(), config))
"""

LOOP = """
import sys
import torch
torch.set_num_threads(1)
from supernet_app import task
from hasa_opt.federated import History, LocalTraining, Server, run
from hasa_opt.tasks import Task
found = History.load(sys.argv[1])
shops = [task.device(partition, 3) for partition in range(3)]
whole = Task(
    "shops", [shop.name for shop in shops], [shop.train for shop in shops],
    [shop.test for shop in shops], [shop.test for shop in shops],
    [shop.counts for shop in shops], 1, loss=task.pinball,
)
names = "optimizer", "schedule", "learning_rate", "batch_size"
expected = run(
    task.model(), whole, found.widths, rounds=4,
    training=LocalTraining(**{name: task.OPTIONS[name] for name in names}),
    server=Server(optimizer=task.OPTIONS["server_optimizer"]),
)
assert all(torch.equal(found.weights[name], t) for name, t in expected.weights.items())
assert (found.test_metric == expected.test_metric).all()
print(found.metric, found.test_metric[0].mean() > found.test_metric[-1].mean())
"""


def python(place: Path, code: str, *arguments: object) -> str:
    variables = environment()
    variables["PYTHONPATH"] = f"{place}:{variables.get('PYTHONPATH', '')}"
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=place, env=variables, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_one_file_is_edited_for_a_model_data_a_loss_and_options_of_ones_own(tmp_path: Path) -> None:
    place, output = tmp_path / "app", tmp_path / "result"
    done = CliRunner().invoke(app, ["flower", "new", str(place), "--task", "digits"])
    assert done.exit_code == 0, done.output
    (place / "supernet_app" / "task.py").write_text(TASK)
    python(place, RUN, output)
    assert History.load(output).rounds == 4
    assert python(place, LOOP, output).split() == ["loss", "True"]


def test_options_of_the_server_that_devices_have_not_are_said() -> None:
    own = {"clients": 10, "rounds": 1, "node_timeout_s": 0.2}
    for options in (
        {"optimizer": partial(torch.optim.SGD, momentum=0.9)},
        {"schedule": lambda number: 1.0},
    ):
        with pytest.warns(UserWarning, match="no update was left"):
            found = serve(model(), LocalGrid(client, range(10)), Settings.read({}, own | options))
        assert len([each for each in found.events if each.kind == "dropped"]) == 10


def test_an_option_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InputError, match="unknown option 'epoch'"):
        Settings.read({}, {"epoch": 1})
