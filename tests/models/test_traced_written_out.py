"""What users write out themselves is cut as torch's own layers are, or refused by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.networks.comparison import assert_is_masked_module
from torch import Tensor, nn
from torch.nn import functional

from hasa_opt import tasks
from hasa_opt.errors import InputError
from hasa_opt.federated import LocalTraining, run
from hasa_opt.models import Supernet, extract, fresh

torch.set_num_threads(1)
GENERATOR = torch.Generator().manual_seed(0)
FEATURES = torch.randn(4, 5, generator=GENERATOR)
IMAGES = torch.randn(3, 2, 6, 6, generator=GENERATOR)
SERIES = torch.randn(3, 4, 5, generator=GENERATOR)
Function = Callable[[Tensor], Tensor]


class HandRMSNorm(nn.Module):
    """Scales by the root of the mean square; the class's name says to the comparison what it is."""

    def __init__(self, function: Function, units: int = 8) -> None:
        super().__init__()
        self.function, self.weight = function, nn.Parameter(torch.linspace(0.5, 1.5, units))

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x) * self.weight


class Between(nn.Module):
    """A hidden layer, something in between, and a head."""

    def __init__(self, between: nn.Module, into: int = 8) -> None:
        super().__init__()
        self.lower, self.between, self.head = nn.Linear(5, 8), between, nn.Linear(into, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.between(self.lower(x)))


def root_mean_square(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def of_another_type(x: Tensor) -> Tensor:
    wide = x.to(torch.float64)
    return (wide / torch.sqrt((wide * wide).mean(dim=-1, keepdim=True) + 1e-6)).to(x.dtype)


def standardised(x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()


def by_variance(x: Tensor) -> Tensor:
    spread = x.var(-1, keepdim=True, correction=0)
    return (x - x.mean(-1, keepdim=True)) * (spread + 1e-6).pow(-0.5)


NORMALISATIONS = {
    "root mean square": root_mean_square,
    "of another type": of_another_type,
    "standardised": standardised,
    "by variance": by_variance,
}


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_a_normalisation_that_is_written_out_runs_over_the_kept_units(name: str) -> None:
    module = Between(HandRMSNorm(NORMALISATIONS[name]))
    supernet = Supernet(module, FEATURES)
    assert supernet.sizes == {"lower": 8}
    for seed in (None, 1):
        assert_is_masked_module(supernet, module, FEATURES, 0.5, seed)


def scales(x: Tensor) -> Tensor:
    return x.pow(2).mean(-1, keepdim=True)


NONE = {
    "added": lambda x: x + x.mean(-1, keepdim=True),
    "without a root": lambda x: x / (scales(x) + 1e-6),
    "of something else": lambda x: x.tanh() * torch.rsqrt(scales(x) + 1e-6),
    "also read elsewhere": lambda x: root_mean_square(x) + scales(x),
    "divided by the units": lambda x: torch.sqrt(scales(x) + 1e-6) / x,
    "subtracted the other way": lambda x: x.mean(-1, keepdim=True) - x,
    "root of a root": lambda x: x * scales(x).sqrt().sqrt(),
}


@pytest.mark.parametrize("name", NONE)
def test_a_mean_that_does_anything_else_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="mean in module 'between' mixes all entries"):
        Supernet(Between(HandRMSNorm(NONE[name])), FEATURES)


@pytest.mark.parametrize("norm", [nn.LayerNorm(8), nn.RMSNorm(8), HandRMSNorm(root_mean_square)])
def test_a_softmax_over_units_is_found_behind_a_normalisation_too(norm: nn.Module) -> None:
    def softmax(x: Tensor) -> Tensor:
        return x.exp() / x.exp().sum(-1, keepdim=True)

    with pytest.raises(InputError, match="left out would change"):
        Supernet(Between(nn.Sequential(norm, HandRMSNorm(softmax))), FEATURES)


class Attending(nn.Module):
    """Two heads of keys for four of queries."""

    def __init__(self, enable_gqa: bool) -> None:
        super().__init__()
        self.lower, self.enable_gqa = nn.Linear(5, 8), enable_gqa
        self.q, self.k, self.v = nn.Linear(8, 12), nn.Linear(8, 6), nn.Linear(8, 6)
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lower(x)
        q, k, v = (
            layer(x).view(*x.shape[:2], -1, 3).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        if not self.enable_gqa:
            k, v = k.repeat_interleave(2, dim=1), v.repeat_interleave(2, dim=1)
        x = functional.scaled_dot_product_attention(q, k, v, enable_gqa=self.enable_gqa)
        return self.head(x.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("enable_gqa", [False, True])
def test_heads_that_share_their_keys_are_cut_with_them(enable_gqa: bool) -> None:
    module = Attending(enable_gqa)
    supernet = Supernet(module, SERIES)
    assert supernet.sizes == {"lower": 8, "q": 2}
    assert extract(supernet, 0.5).get_parameter("q.weight").shape == (6, 4)
    for seed in (None, 1):
        assert_is_masked_module(supernet, module, SERIES, 0.5, seed)


class Cells(nn.Module):
    """Calls a cell for each step."""

    def __init__(self, cell: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.lower, self.cell, self.head = nn.Linear(5, 6), cell(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.lower(x)
        state = self.cell(x[:, 0])
        for step in range(1, x.shape[1]):
            state = self.cell(x[:, step], state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Layers(nn.Module):
    """A recurrent layer of given settings."""

    def __init__(self, layer: nn.RNNBase, states: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(states, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0])


RECURRENT = {
    "LSTM cell": (Cells(nn.LSTMCell), {"lower": 6, "cell": 8}),
    "GRU cell": (Cells(nn.GRUCell), {"lower": 6, "cell": 8}),
    "RNN cell": (Cells(nn.RNNCell), {"lower": 6, "cell": 8}),
    "RNN": (Layers(nn.RNN(5, 8, 2, batch_first=True), 8), {"layer": 8}),
    "RNN of relu": (Layers(nn.RNN(5, 8, nonlinearity="relu", batch_first=True), 8), {"layer": 8}),
    "projected": (Layers(nn.LSTM(5, 8, 2, batch_first=True, proj_size=4), 4),
                  {"layer": 8, "layer.weight_hh_l0": 4}),
    "projected both ways": (
        Layers(nn.LSTM(5, 8, 2, False, True, bidirectional=True, proj_size=4), 8),
        {"layer": 8, "layer.weight_hh_l0": 4}),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_and_cells(name: str) -> None:
    module, sizes = RECURRENT[name]
    supernet = Supernet(module.eval(), SERIES)
    assert supernet.sizes == sizes
    for seed in (None, 1):
        assert_is_masked_module(supernet, module, SERIES, 0.5, seed)


class Images(nn.Module):
    """Something between two convolutions."""

    def __init__(self, between: nn.Module, into: int) -> None:
        super().__init__()
        self.lower, self.between = nn.Conv2d(2, 8, 3, padding=1), between
        self.upper = nn.Conv2d(into, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.upper(self.between(self.lower(x))).mean((2, 3))


class PaddedShortcut(nn.Module):
    """Adds eight channels to twelve, of which the others get zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 12, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 3))
        return self.conv(x.relu()) + shortcut


ON_IMAGES = {
    "pixel shuffle": (nn.PixelShuffle(2), 2, {"lower": 2}),
    "pixel unshuffle": (nn.PixelUnshuffle(2), 32, {"lower": 8}),
    "channel shuffle": (nn.ChannelShuffle(2), 8, {"lower": 2}),
    "one group": (nn.GroupNorm(1, 8), 8, {"lower": 8}),
    "padded shortcut": (
        PaddedShortcut(), 12, {"lower": 8, "between.conv": 1, "between.conv.weight": 3}),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_IMAGES)
def test_channels_are_followed_through(name: str) -> None:
    between, into, sizes = ON_IMAGES[name]
    module = Images(between, into)
    supernet = Supernet(module, IMAGES)
    assert supernet.sizes == sizes
    for seed in (None, 1):
        assert_is_masked_module(supernet, module, IMAGES, 0.5, seed)


class LengthOfBatch(Between):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.reshape(len(x), -1))


def test_the_length_of_a_batch_may_be_asked_for_by_len() -> None:
    module = LengthOfBatch(nn.ReLU())
    supernet = Supernet(module, FEATURES)
    for n in (1, 3):
        torch.testing.assert_close(supernet(FEATURES[:n]), module(FEATURES[:n]))
    assert len(FEATURES) == 4


class Several(Between):
    """Gives scores and features, in some structure."""

    def __init__(self, give: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__(nn.ReLU())
        self.give, self.box = give, nn.Linear(8, 4)

    def forward(self, x: Tensor) -> object:
        hidden = self.between(self.lower(x))
        return self.give(self.head(hidden), self.box(hidden))


@pytest.mark.parametrize(
    "give",
    [
        lambda a, b: (a, b),
        lambda a, b: [a, (b, a.argmax(-1))],
        lambda a, b: {"scores": a, "box": b},
    ],
)
def test_several_outputs_keep_their_structure(give: Callable[[Tensor, Tensor], object]) -> None:
    module = Several(give)
    supernet = Supernet(module, FEATURES)
    assert supernet.sizes == {"lower": 8}
    assert supernet.n_outputs == 3
    assert type(supernet(FEATURES)) is type(module(FEATURES))
    assert_is_masked_module(supernet, module, FEATURES, 0.5)


class Deep(nn.Module):
    """Two layers, and a softmax over the units of the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 16), nn.Linear(16, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).softmax(-1))


def test_what_cannot_be_cut_stays_whole_where_enough_is_left_and_a_warning_says_so() -> None:
    module = Deep()
    with pytest.warns(UserWarning, match=r"Deep is cut in part: second.*softmax.* lists 1 par"):
        supernet = Supernet(module, FEATURES)
    assert supernet.sizes == {"first": 16}
    assert list(supernet.whole) == ["second.weight"]
    assert_is_masked_module(supernet, module, FEATURES, 0.5)


def test_the_time_is_fixed_where_the_module_fixes_it() -> None:
    class Squares(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv2d(1, 6, 3), nn.Linear(6 * 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(x.view(-1, 1, 4, 4)).relu().view(-1, 6 * 4))

    module, flat = Squares(), torch.randn(3, 16, generator=GENERATOR)
    supernet = Supernet(module, flat)
    assert supernet.sizes == {"conv": 6}
    assert_is_masked_module(supernet, module, flat, 0.5)


def test_several_outputs_are_trained_by_a_loss_of_them() -> None:
    def loss(outputs: tuple[Tensor, Tensor], targets: Tensor) -> Tensor:
        scores, box = outputs
        return functional.cross_entropy(scores, targets) + box.square().mean()

    generator = torch.Generator().manual_seed(4)
    features = torch.randn(60, 5, generator=generator)
    labels = (features[:, 0] > 0).long()
    task = tasks.from_arrays(
        features.numpy(), labels.numpy(), np.arange(60) % 3, loss=loss, metric="loss", n_outputs=3
    )
    supernet = fresh(Supernet(Several(lambda a, b: (a, b)), features[:4]), seed=0)
    training = LocalTraining(epochs=2, batch_size=8, learning_rate=0.05)
    history = run(supernet, task, [0.5, 0.5, 1.0], rounds=4, training=training, seed=0)
    assert history.test_loss[-1].mean() < history.test_loss[0].mean() - 0.05
