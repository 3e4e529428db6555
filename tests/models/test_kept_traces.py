"""A trace that is kept in a file is taken for the same module alone, and saves the tracing."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import environment
from torch import Tensor, nn

from hasa_opt.models import Supernet, extract
from hasa_opt.models.traced import supernet as traced

torch.set_num_threads(1)
FEATURES = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
OUTSIDE = {"slope": 1.0}


class Net(nn.Module):
    """Two layers, a factor, a buffer, and a number that lies outside."""

    def __init__(self, hidden: int = 8, factor: float = 1.0, shift: float = 0.0) -> None:
        super().__init__()
        self.lower, self.head = nn.Linear(5, hidden), nn.Linear(hidden, 3)
        self.factor, self.words = factor, {"one", "two", "three"}
        self.register_buffer("shift", torch.full((1,), shift), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.lower(x).relu() * self.factor + self.shift
        return self.head(hidden * OUTSIDE["slope"])


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """The modes in which modules were traced."""
    modes: list[bool] = []
    plain = traced.capture

    def counted(module: nn.Module, example: Tensor, *, training: bool) -> object:
        modes.append(training)
        return plain(module, example, training=training)

    monkeypatch.setattr(traced, "capture", counted)
    return modes


def test_the_same_module_with_other_weights_is_traced_once(
    traces: list[bool], tmp_path: Path
) -> None:
    file = tmp_path / "trace"
    first = Supernet(Net(), FEATURES, trace=file)
    assert traces == [True, False]
    module = Net()
    again = Supernet(module, 2 * FEATURES, trace=file)
    assert traces == [True, False]
    assert again.sizes == first.sizes == {"lower": 8}
    assert again.architecture == first.architecture
    assert torch.equal(again(FEATURES), module(FEATURES))
    assert extract(again, 0.5).get_parameter("lower.weight").shape == (4, 5)
    assert torch.equal(again.example_input, 2 * FEATURES)
    assert pickle.loads(pickle.dumps(again)).sizes == again.sizes


def frozen() -> nn.Module:
    module = Net()
    module.lower.requires_grad_(False)
    return module


@pytest.mark.parametrize(
    ("other", "example", "keep"),
    [
        (lambda: Net(hidden=12), FEATURES, ()),
        (lambda: Net(factor=2.0), FEATURES, ()),
        (lambda: Net(shift=1.0), FEATURES, ()),
        (lambda: Net().double(), FEATURES.double(), ()),
        (frozen, FEATURES, ()),
        (lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)), FEATURES, ()),
        (Net, FEATURES[:, None].expand(-1, 2, -1), ()),
        (Net, FEATURES, ["head.bias"]),
    ],
)
def test_anything_else_is_traced_anew(
    other, example: Tensor, keep, traces: list[bool], tmp_path: Path
) -> None:
    file = tmp_path / "trace"
    Supernet(Net(), FEATURES, trace=file)
    module = other()
    for _ in range(2):
        supernet = Supernet(module, example, keep, trace=file)
        assert traces == [True, False] * 2
        assert torch.equal(supernet(example), module(example))


def test_what_no_file_shows_is_seen_in_the_output(
    traces: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "trace"
    Supernet(Net(), FEATURES, trace=file)
    monkeypatch.setitem(OUTSIDE, "slope", 3.0)
    module = Net()
    supernet = Supernet(module, FEATURES, trace=file)
    assert traces == [True, False] * 2
    assert torch.equal(supernet(FEATURES), module(FEATURES))


SCRIPT = """
import torch
from support.networks.sequences import NanoGPT
from hasa_opt.models.traced.kept import fingerprint
torch.manual_seed({seed})
module = NanoGPT()
module.words, module.words_hash = {{"one", "two", "three"}}, hash("one")
print(fingerprint(module, torch.ones(2, 6, dtype=torch.int64), ()))
"""


@pytest.mark.slow
def test_the_next_process_finds_the_same_module() -> None:
    """It draws other weights, and hashes of strings are others in it."""
    found = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT.format(seed=seed)],
            env=environment(PYTHONHASHSEED=str(seed)), capture_output=True, text=True, check=True,
        ).stdout
        for seed in (1, 2)
    ]  # fmt: skip
    assert found[0] == found[1]
    assert len(found[0].strip()) == 64


@pytest.mark.parametrize("content", [b"", b"no trace", pickle.dumps(("key", 3)), pickle.dumps(3)])
def test_a_file_of_something_else_is_replaced(
    content: bytes, traces: list[bool], tmp_path: Path
) -> None:
    file = tmp_path / "trace"
    file.write_bytes(content)
    for _ in range(2):
        assert Supernet(Net(), FEATURES, trace=file).sizes == {"lower": 8}
    assert traces == [True, False]
