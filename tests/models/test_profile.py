"""What a width costs: FLOPs, bytes and memory beside PyTorch's own counters and the process."""

from __future__ import annotations

import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

import hasa_opt as hasa
from hasa_opt.errors import InputError
from hasa_opt.models import CNN, MLP, LSTMLanguageModel, Profile, SupernetModel, extract

torch.set_num_threads(1)
ROOT = Path(__file__).parents[2]
WIDTHS = (0.25, 0.5, 1.0)

CASES = {
    "mlp": lambda: (MLP(60, 5, hidden=(64, 48)), torch.rand(32, 60)),
    "cnn": lambda: (CNN(5, channels=(32, 64), image_size=28), torch.rand(32, 1, 28, 28)),
    "lstm": lambda: (
        LSTMLanguageModel(500, 48, 64, dropout=0.1),
        torch.randint(2, 500, (32, 12)),
    ),
}


@pytest.fixture(params=CASES)
def case(request) -> tuple[SupernetModel, torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return CASES[request.param]()


class LiveStorages(TorchDispatchMode):
    """Add up the storages that are alive between operations, and remember the most.

    What a kernel takes and gives back within one operation it cannot see; the sizes of the cases
    are such that this is little.
    """

    def __init__(self, held: list[torch.Tensor]) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.peak = 0
        for tensor in held:
            self.see(tensor)

    def see(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        address = storage._cdata
        if address not in self.alive:
            self.alive[address] = storage.nbytes()
            weakref.finalize(storage, self.alive.pop, address)
            self.peak = max(self.peak, sum(self.alive.values()))

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.see(leaf)
        return result


OPTIMIZERS = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor) -> None:
    logits = model(batch)
    loss = functional.cross_entropy(logits.flatten(0, -2), logits.argmax(-1).flatten())
    del logits
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_memory_is_that_of_the_storages_alive(case, optimizer):
    model, batch = case
    profile = model.profile(WIDTHS, batch, optimizer)
    for width, measured in zip(WIDTHS, profile.memory_bytes, strict=True):
        subnet = extract(model, width)
        own = OPTIMIZERS[optimizer](subnet.parameters(), fused=True)
        with LiveStorages([*subnet.parameters(), batch]) as live:
            for _ in range(3):
                step(subnet, own, batch)
        assert measured == pytest.approx(live.peak, rel=0.1), width


def test_memory_holds_the_state_of_any_optimizer():
    model, batch = MLP(16, 3, hidden=(64,)), torch.zeros(2, 16)
    momentum = partial(torch.optim.SGD, momentum=0.9)
    plain, heavy = (model.profile([1.0], batch, optimizer) for optimizer in ("sgd", momentum))
    held = sum(parameter.nbytes for parameter in model.parameters())
    assert heavy.memory_bytes[0] - plain.memory_bytes[0] == pytest.approx(held, rel=0.2)
    assert heavy.optimizer == "SGD(momentum=0.9)"
    with pytest.raises(InputError, match="LBFGS computes the loss several times"):
        model.profile([1.0], batch, torch.optim.LBFGS)


RESIDENT = """
import torch
from hasa_opt.federated import LocalTraining, local_train
from hasa_opt.models import MLP, extract, training_bytes
from hasa_opt.tasks import Split

def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

torch.set_num_threads(1)
split = Split(torch.rand(16, 700), torch.zeros(16, dtype=torch.int64))
settings = LocalTraining(optimizer="adam", epochs=2)
local_train(MLP(700, 10, hidden=(8,)), split, settings, (0, 0, 0))  # loads the libraries
model = MLP(700, 10, hidden=(2500, 2500))
subnet = extract(model, 0.8)
held = sum(tensor.nbytes for tensor in [*subnet.parameters(), split.inputs])
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
before = status("VmRSS")
local_train(subnet, split, settings, (0, 0, 0))
print(status("VmHWM") - before + held, training_bytes(model, 0.8, split.inputs, "adam"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_memory_is_what_the_process_takes():
    command = [sys.executable, "-c", RESIDENT]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""
    resident, measured = map(int, ended.stdout.split())
    assert measured == pytest.approx(resident, rel=0.1)


def test_flops_are_those_of_pytorchs_counter(case):
    model, batch = case
    profile = model.profile(WIDTHS, batch)
    batch = batch.double() if batch.is_floating_point() else batch
    for width, counted in zip(WIDTHS, profile.flops, strict=True):
        subnet = extract(model, width).double()  # the counter does not know the fused LSTM
        with FlopCounterMode(display=False) as counter:
            step(subnet, torch.optim.SGD(subnet.parameters()), batch)
        assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_parameters_and_bytes_are_those_of_the_subnet(case):
    model, batch = case
    profile = model.profile(WIDTHS, batch)
    for row, width in enumerate(WIDTHS):
        tensors = list(extract(model, width).parameters())
        assert profile.parameters[row] == sum(tensor.numel() for tensor in tensors)
        assert profile.transfer_bytes[row] == sum(tensor.nbytes for tensor in tensors)


def test_a_profile_leaves_model_and_random_state_alone(case):
    model, batch = case
    before, weights = torch.get_rng_state(), [p.clone() for p in model.parameters()]
    one = model.profile((0.5, 0.25), batch)
    assert one.widths.tolist() == [0.25, 0.5, 1.0]
    assert one.batch_size == 32
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), weights, strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    again = model.profile((0.5, 0.25), batch)
    for name in ("flops", "parameters", "transfer_bytes", "memory_bytes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
        assert (np.diff(getattr(one, name)) > 0).all()


def test_adam_holds_two_more_numbers_per_parameter():
    model, batch = MLP(60, 5, hidden=(640, 480)), torch.rand(2, 60)
    adam, sgd = (model.profile([0.5], batch, optimizer) for optimizer in ("adam", "sgd"))
    np.testing.assert_allclose(adam.memory_bytes - sgd.memory_bytes, 8 * adam.parameters, rtol=0.01)


class Tied(SupernetModel):
    """A decoder that shares the embedding's weights."""

    def __init__(self, hidden: int) -> None:
        super().__init__({"hidden": hidden}, 11)
        self.embedding = nn.Embedding(11, hidden)
        self.decoder = nn.Linear(hidden, 11)
        self.decoder.weight = self.embedding.weight
        self.example_input = torch.zeros(3, 4, dtype=torch.int64)

    def forward(self, tokens):
        return self.decoder(self.embedding(tokens))

    def cuts(self):
        rows = (None, hasa.models.Cut("hidden"))
        return {"embedding.weight": rows, "decoder.weight": rows, "decoder.bias": (None,)}

    def build(self, sizes):
        return Tied(sizes["hidden"])

    @classmethod
    def for_data(cls, inputs, n_outputs, **options):
        return cls(8)


def test_tied_weights_count_once_and_a_known_input_serves():
    profile = Tied(8).profile([0.5])
    assert profile.parameters.tolist() == [11 * 4 + 11, 11 * 8 + 11]
    assert profile.transfer_bytes.tolist() == [4 * (11 * 4 + 11), 4 * (11 * 8 + 11)]
    assert profile.batch_size == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample": None}, "knows no input"),
        ({"sample": torch.rand(2, 7)}, "cannot process an input"),
        ({"sample": np.zeros((2, 60))}, "must be a training batch"),
        ({"sample": torch.zeros(0, 60)}, "must be a training batch"),
        ({"widths": ["half"]}, "must be numbers"),
        ({"widths": [0.0]}, "width 0.0 is outside"),
        ({"widths": [1.5]}, "width 1.5 is outside"),
        ({"optimizer": "lion"}, "'lion'"),
    ],
)
def test_bad_arguments(arguments, message):
    given = {"widths": [0.5], "sample": torch.rand(2, 60)} | arguments
    with pytest.raises(InputError, match=message):
        MLP(60, 5).profile(**given)


# ------------------------------------------------------------------------------- the program


CLIENTS = hasa.Clients([100, 250, 40], names=["a", "b", "c"])
MENU = (0.2, 0.35, 0.5, 0.8)


@pytest.fixture(scope="module")
def profile() -> Profile:
    return MLP(20, 4, hidden=(20, 40)).profile(MENU, torch.rand(8, 20))


def dense_flops(width: float) -> int:
    """Per sample: two FLOPs per weight forward and for each of two gradients, none for inputs."""
    below, above = int(20 * width + 1e-9), int(40 * width + 1e-9)
    return 2 * (2 * 20 * below + 3 * (below * above + above * 4))


def build(**options) -> hasa.AllocationProblem:
    given = {"clients": CLIENTS, "widths": MENU, "budget": 0.5} | options
    return hasa.AllocationProblem.build(
        given.pop("clients"), utility=hasa.utility.hasa([0.3, 0.1, 0.2]), **given
    )


def test_flops_cost_counts_every_sample_exactly(profile):
    problem = build(cost=hasa.cost.profiled(profile))
    per_sample = np.array([dense_flops(width) for width in MENU])
    np.testing.assert_array_equal(problem.costs, np.outer([100, 250, 40], per_sample))
    assert problem.full_cost == 390 * dense_flops(1.0)
    assert problem.costs.dtype == np.int64
    assert hasa.solve(problem, "highs").spent <= problem.limit


@pytest.mark.parametrize("resource", ["parameters", "transfer_bytes"])
def test_other_costs_count_once_per_client(profile, resource):
    problem = build(cost=hasa.cost.profiled(profile, resource))
    np.testing.assert_array_equal(problem.costs, [getattr(profile, resource)[:-1]] * 3)
    assert problem.full_cost == 3 * getattr(profile, resource)[-1]


def test_a_profile_serves_as_a_further_budget(profile):
    uplink = hasa.Budget(hasa.cost.profiled(profile, "transfer_bytes"), 9000, name="uplink bytes")
    choice = hasa.solve(build(constraints=[uplink]), "highs").choice
    assert profile.transfer_bytes[choice].sum() <= 9000


def test_what_is_no_cost_is_refused(profile):
    with pytest.raises(InputError, match=r"'memory_bytes'.*max_width"):
        hasa.cost.profiled(profile, "memory_bytes")
    with pytest.raises(InputError, match="profile is a ndarray"):
        hasa.cost.profiled(profile.flops)
    with pytest.raises(InputError, match=r"width 0\.3 of the menu has not been profiled"):
        build(widths=(0.2, 0.3), cost=hasa.cost.profiled(profile))


def test_memory_caps_widths(profile):
    room = profile.memory_bytes
    caps = profile.max_width([room[0], room[2], room[3] - 1, 10**12])
    assert caps.tolist() == [0.2, 0.5, 0.5, 1.0]
    clients = hasa.Clients([100, 250, 40], max_width=caps[:3])
    problem = build(clients=clients, cost=hasa.cost.profiled(profile), budget=0.4)
    chosen = hasa.solve(problem, "highs").choice
    assert (profile.memory_bytes[chosen] <= [room[0], room[2], room[3] - 1]).all()


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        ([10**9, 10], r"client 1 has 10 bytes.*narrower.*1 such"),
        ([float("nan")], "client 0 has nan bytes"),
        (10**9, r"shape \(\)"),
        (["1 GB"], "one number per client"),
    ],
)
def test_a_device_that_cannot_train_is_named(profile, memory, message):
    with pytest.raises(InputError, match=message):
        profile.max_width(memory)
