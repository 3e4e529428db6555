"""Hostile modules: a supernet is exactly right, or the operation is refused by name."""

import re

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from hasa_opt.errors import InputError
from hasa_opt.models import Supernet, extract, fresh

torch.set_num_threads(1)


class Between(nn.Module):
    """A hidden layer, something in between, and a head."""

    def __init__(self, between, hidden: int = 8, into: int = 8) -> None:
        super().__init__()
        self.lower, self.head = nn.Linear(5, hidden), nn.Linear(into, 3)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.lower(x)))


class Called(nn.Module):
    """A function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def image_module(between, into: int = 8) -> nn.Module:
    module = Between(between)
    module.lower, module.head = nn.Conv2d(2, 8, 3, padding=1), nn.Conv2d(into, 3, 1)
    return module


FEATURES, IMAGES = torch.randn(4, 5), torch.randn(4, 2, 6, 6)


def scale_half(x: Tensor) -> Tensor:
    x = x.clone()
    x[:, :3] *= 2
    return x


REFUSED = {
    "softmax over units": (lambda x: x.softmax(dim=-1), 8, "softmax in module 'between'"),
    "softmax written out": (lambda x: x.exp() / x.exp().sum(-1, keepdim=True), 8, "left out would"),
    "number of units": (lambda x: x / torch.ones_like(x).sum(1, keepdim=True), 8, "left out would"),
    "sigmoid products": (lambda x: x.sigmoid() @ x.sigmoid().t() @ x, 8, "left out would"),
    "mean over units": (lambda x: x + x.mean(-1, keepdim=True), 8, "mean in"),
    "maximum over units": (lambda x: x.amax(1, keepdim=True).expand(-1, 8), 8, "amax in"),
    "first three": (lambda x: x[:, :3], 3, "slice in"),
    "every other": (lambda x: x[:, ::2], 4, "slice in"),
    "one unit": (lambda x: x[:, 2:3], 1, "slice in"),
    "one unit by number": (lambda x: x * x[:, 2].unsqueeze(1), 8, "select in"),
    "units by index": (lambda x: x[:, torch.tensor([2, 0, 1])], 3, "index in"),
    "slice in place": (scale_half, 8, "slice in"),
    "flip": (lambda x: x.flip(1), 8, "flip in"),
    "roll": (lambda x: x.roll(1, dims=1), 8, "roll in"),
    "sort": (lambda x: x.sort(dim=1)[0], 8, "sort in"),
    "cumulative sum": (lambda x: x.cumsum(1), 8, "cumsum in"),
    "positions": (lambda x: x + torch.arange(8), 8, "arange in"),
    "constant": (lambda x: x * torch.tensor([1.0, 2.0] * 4), 8, "constant tensor"),
    "matrix of a fixed size": (lambda x: x @ torch.eye(8), 8, "eye in"),
    "outer einsum": (lambda x: torch.einsum("bi,...i->b...", x, torch.ones(4, 8)), 4, "einsum in"),
    "smallest unit": (lambda x: x / torch.linalg.vector_norm(x, -1, 1, True), 8, "vector_norm in"),
    "outer product": (lambda x: (x.unsqueeze(2) * x.unsqueeze(1)).flatten(1), 64, "products of"),
    "one row": (lambda x: (x.t() @ x)[:1].expand(x.shape[0], -1), 8, "slice in"),
    "uneven chunks": (lambda x: torch.cat(x.chunk(3, dim=1)[:2], dim=1), 6, "chunk in"),
    "unfold": (lambda x: x.unfold(1, 2, 1)[..., 0], 7, "unfold in"),
    "complex numbers": (lambda x: torch.fft.rfft(x).abs(), 5, "fft_rfft in"),
    "distances": (lambda x: torch.cdist(x, x + 1)[:, :1], 1, "in module 'between'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_operation_is_refused_by_name(name):
    function, into, message = REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        Supernet(Between(Called(function), into=into), FEATURES)
    assert "keep=" in str(caught.value) or "leave" in str(caught.value)


IMAGE_REFUSED = {
    "channel softmax": (nn.Softmax2d(), 8, "softmax in module 'between'"),
    "cross-channel norm": (nn.LocalResponseNorm(3), 8, "in module 'between'"),
    "three channels": (Called(lambda x: x[:, :3]), 3, "slice in module 'between'"),
    "channel pooling": (Called(lambda x: x.mean(1, keepdim=True)), 1, "mean in module 'between'"),
    "padding by ones": (
        Called(lambda x: functional.pad(x, (0, 0, 0, 0, 0, 1), value=1.0)), 9, "pad in"
    ),
    "channels as depth": (
        Called(lambda x: functional.avg_pool3d(x, (2, 1, 1))), 4, "avg_pool3d in"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGE_REFUSED)
def test_operation_on_channels_is_refused_by_name(name):
    between, into, message = IMAGE_REFUSED[name]
    with pytest.raises(InputError, match=message) as caught:
        Supernet(image_module(between, into), IMAGES)
    if name != "channels as depth":  # All of its dimensions are refused alike.
        assert "lower.weight" in str(caught.value)
        assert "keep=['lower']" in str(caught.value)


@pytest.mark.parametrize("name", ["channel softmax", "three channels", "channel pooling"])
def test_a_kept_part_may_do_anything(name):
    between, into, _ = IMAGE_REFUSED[name]
    deep = nn.Sequential(nn.Conv2d(2, 6, 1), nn.ReLU(), image_module(between, into))
    deep[2].lower = nn.Conv2d(6, 8, 3, padding=1)
    supernet = Supernet(deep, IMAGES, keep=["2.between"])
    assert supernet.sizes == {"0": 6}
    subnet = extract(supernet, 0.5)
    assert subnet.state_dict()["2.lower.weight"].shape == (8, 3, 3, 3)
    assert torch.equal(extract(supernet, 1.0)(IMAGES), deep(IMAGES))


EXACT = {
    "sum over units": (lambda x: x.sum(1, keepdim=True) * x, 8),
    "cosines": (lambda x: functional.normalize(x), 8),
    "halves": (lambda x: x[:, :4] * x[:, 4:], 4),
    "chunks": (lambda x: torch.cat(x.chunk(4, dim=1)[1:3], dim=1), 4),
    "uneven split": (lambda x: torch.cat(x.split([5, 3], dim=1)[::-1], dim=1), 8),
    "gated": (lambda x: functional.glu(x), 4),
    "einsum": (lambda x: torch.einsum("bi,bi,ci->bi", x, x, x[:1]), 8),
    "shuffle": (lambda x: x.view(-1, 2, 4).transpose(1, 2).flatten(1), 8),
    "in place": (lambda x: x.clone().relu_().add_(1).mul_(x), 8),
    "stacked": (lambda x: torch.stack([x, x.tanh()], dim=1).sum(1), 8),
    "repeated": (lambda x: x.repeat(1, 3), 24),
    "expanded": (lambda x: x.unsqueeze(1).expand(-1, 3, -1).reshape(x.shape[0], -1), 24),
    "zeros": (lambda x: x + torch.zeros(8) + torch.full((8,), 2.0), 8),
    "where": (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), 8),
    "transposed": (lambda x: (x.t() * 2).t(), 8),
}


@pytest.mark.parametrize("name", EXACT)
def test_unusual_but_exact(name):
    """Scaling the dropped units' rows to zero leaves what the subnet computes."""
    function, into = EXACT[name]
    torch.manual_seed(0)
    module = Between(Called(function), into=into)
    supernet = Supernet(module, FEATURES)
    assert "lower" in supernet.sizes
    assert torch.equal(extract(supernet, 1.0)(FEATURES), module(FEATURES))
    kept = {group: torch.randperm(size)[: size // 2] for group, size in supernet.sizes.items()}
    subnet = extract(supernet, 0.5, kept)
    full = module.lower.weight.detach()
    rows = [int((full == row).all(1).nonzero()) for row in subnet.state_dict()["lower.weight"]]
    dropped = [unit for unit in range(8) if unit not in rows]
    columns = {tuple(c.tolist()) for c in subnet.state_dict()["head.weight"].t()}
    with torch.no_grad():
        module.lower.weight[dropped] = 0
        module.lower.bias[dropped] = 0
        for column in range(into):
            if tuple(module.head.weight[:, column].tolist()) not in columns:
                module.head.weight[:, column] = 0
    torch.testing.assert_close(subnet(FEATURES), module(FEATURES), atol=1e-5, rtol=1e-5)


class Branches(nn.Module):
    """Two branches, joined and taken apart again."""

    def __init__(self, rejoin, sizes=(4, 4), into: int = 4) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(5, sizes[0]), nn.Linear(5, sizes[1])
        self.head = nn.Linear(into, 3)
        self.rejoin = rejoin

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rejoin(torch.cat([self.left(x), self.right(x)], dim=1)))


@pytest.mark.parametrize(
    ("rejoin", "sizes", "into", "groups"),
    [
        (lambda x: x, (4, 6), 10, {"left": 4, "right": 6}),
        (lambda x: x[:, 4:], (4, 6), 6, {"right": 6}),
        (lambda x: torch.cat(x.split([4, 6], 1)[::-1], 1), (4, 6), 10, {"right": 6, "left": 4}),
        (functional.glu, (4, 4), 4, {"left": 4}),
        (lambda x: x[:, :4] * x[:, 4:], (4, 4), 4, {"left": 4}),
        (lambda x: x + torch.ones(10), (4, 6), 10, {"left": 4, "right": 6}),
    ],
)
def test_branches(rejoin, sizes, into, groups):
    torch.manual_seed(0)
    module = Branches(rejoin, sizes, into)
    supernet = Supernet(module, FEATURES)
    assert {g: n for g, n in supernet.sizes.items() if g in ("left", "right")} == groups | {
        g: n for g, n in supernet.sizes.items() if g == "left" and g not in groups
    }
    subnet = extract(supernet, 0.5)
    for name, size in zip(("left", "right"), sizes, strict=True):
        getattr(module, name).weight.data[size // 2 :] = 0
        getattr(module, name).bias.data[size // 2 :] = 0
    if into == 10:
        columns = [2, 3, 7, 8, 9] if subnet.cuts()["head.weight"][1][0].group == "left" else [
            3, 4, 5, 8, 9
        ]  # fmt: skip
        module.head.weight.data[:, columns] = 0
    torch.testing.assert_close(subnet(FEATURES), module(FEATURES))


def test_chunks_of_two_branches_are_refused():
    with pytest.raises(InputError, match="chunk in"):
        Supernet(Branches(Called(lambda x: torch.cat(x.chunk(2, 1)[::-1], 1)), into=8), FEATURES)


class Positions(nn.Module):
    """A table of positions that is cut to the length of the sequence."""

    def __init__(self, length) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 8), nn.Linear(8, 7)
        self.positions = nn.Parameter(torch.randn(1, 20, 8))
        self.length = length

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embedding(x) + self.positions[:, : self.length or x.shape[1]])


@pytest.mark.parametrize("length", [None, 6])
def test_a_table_of_positions_is_never_cut_by_position(length):
    module, tokens = Positions(length), torch.ones(2, 6, dtype=torch.int64)
    supernet = Supernet(module, tokens)
    assert supernet.sizes == {"embedding": 8}
    assert extract(supernet, 0.5).positions.shape == (1, 20, 4)
    if length is None:
        assert torch.equal(supernet(tokens[:, :3]), module(tokens[:, :3]))


class DataDependent(Between):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class FixedBatch(Between):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(int(x.shape[0]), -1))


class BranchOnTime(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(7, 8), nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        states = self.embedding(x)
        return self.head(states * 2 if x.shape[1] > 4 else states)


class WithText(Between):
    def forward(self, x: Tensor) -> tuple[Tensor, str]:
        return super().forward(x), "of a linear layer"


class TimeLast(BranchOnTime):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embedding(x)).movedim(2, 1)


class OneNumber(Between):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sum()


class HiddenIndex(Between):
    """Its wider part reads numbers that no operation shows to depend on the unit."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.lower.weight * torch.linspace(1, 2, 8)[:, None]
        return self.head(functional.linear(x, weight, self.lower.bias))


IDENTITY = nn.Identity()


@pytest.mark.parametrize(
    ("module", "example", "message"),
    [
        (DataDependent(IDENTITY), FEATURES, "must not depend on the values"),
        (FixedBatch(IDENTITY), FEATURES, "fixes the batch size to 4"),
        (BranchOnTime(), torch.zeros(2, 6, dtype=torch.int64), "must not branch on the shape"),
        (WithText(IDENTITY), FEATURES, "returns tuple of .*'str'"),
        (OneNumber(IDENTITY), FEATURES, "its last dimension must be the outputs"),
        (
            TimeLast(),
            torch.zeros(2, 6, dtype=torch.int64),
            "its last dimension must be the outputs",
        ),
        (HiddenIndex(IDENTITY), FEATURES, "linspace in"),
        (nn.Linear(5, 3), FEATURES, "nothing is left to cut"),
        (nn.Flatten(), FEATURES, "no parameters"),
        (Between(IDENTITY), torch.zeros(3), "batch of samples"),
        (Between(IDENTITY), torch.zeros(3, 4), "cannot process the example input"),
    ],
)
def test_module_is_refused(module, example, message):
    with pytest.raises(InputError, match=message):
        Supernet(module, example)


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ("head", re.escape("keep=['head']")),
        (["nothing"], "neither a module nor a parameter"),
        (["lower"], "nothing is left to cut"),
        (None, "keep = None must be a list"),
        (3, "keep = 3 must be a list"),
    ],
)
def test_keep_is_checked(keep, message):
    with pytest.raises(InputError, match=message):
        Supernet(Between(IDENTITY), FEATURES, keep=keep)


@pytest.mark.parametrize(
    ("module", "given"),
    [
        (lambda x: x, "a function"),
        (Between, "Between"),
        (torch.jit.ScriptModule(), "a ScriptModule"),
    ],
)
def test_what_is_no_module_is_refused(module, given):
    with pytest.raises(InputError, match=f"module is {given}: give an instance"):
        Supernet(module, FEATURES)


def test_another_shape_of_input_is_refused():
    supernet = Supernet(Between(IDENTITY), FEATURES)
    with pytest.raises(InputError, match=r"\('any', 5\), not an input of shape \(2, 4\)"):
        supernet(torch.zeros(2, 4))


class Scaled(Between):
    def __init__(self) -> None:
        super().__init__(IDENTITY)
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lower(x) * self.scale)


def test_parameters_without_reset_are_refused_only_when_drawn_anew():
    supernet = Supernet(Scaled(), FEATURES)
    assert extract(supernet, 0.5).scale.shape == (4,)
    with pytest.raises(InputError, match="nothing initialises scale: define reset_parameters"):
        fresh(supernet, 0)


def test_gradient_and_module_are_left_alone():
    module = Between(IDENTITY).eval()
    before, state = {n: t.clone() for n, t in module.state_dict().items()}, torch.get_rng_state()
    supernet = Supernet(module, FEATURES)
    assert torch.equal(state, torch.get_rng_state())
    assert not supernet.training
    supernet.train()
    with torch.no_grad():
        supernet.state_dict()["lower.weight"].add_(1)
    assert not module.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_frozen_parameters_stay_frozen():
    module = Between(IDENTITY)
    module.lower.bias.requires_grad_(False)
    subnet = extract(Supernet(module, FEATURES), 0.5)
    assert not subnet.get_parameter("lower.bias").requires_grad
    assert subnet.get_parameter("lower.weight").requires_grad
