"""Parts that modules of others have: no_grad, rotary embeddings, normalised weights, odd names."""

from __future__ import annotations

import copy
import re
import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import TIMES
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from hasa_opt.errors import InputError
from hasa_opt.federated import Execution, run
from hasa_opt.models import MLP, Supernet, SupernetModel, extract, fresh, scaled
from hasa_opt.models.states import as_array
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)
FEATURES = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
FEW = settings(max_examples=3 * TIMES, deadline=None)


class Chain(nn.Module):
    """Linear layers with ReLU, and something done to the units of each; built anew by a seed."""

    def __init__(self, *between: nn.Module, units: int = 8) -> None:
        super().__init__()
        self.between = nn.ModuleList(between)
        lengths = [5, *[units] * len(between), 3]
        self.layers = nn.ModuleList(map(nn.Linear, lengths[:-1], lengths[1:]))

    def forward(self, x: Tensor) -> Tensor:
        for layer, between in zip(self.layers, self.between, strict=False):
            x = between(layer(x).relu())
        return self.layers[-1](x)


def gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor | None]:
    model.zero_grad()
    model(x).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def assert_same_gradients(one: nn.Module, other: nn.Module, x: Tensor) -> None:
    first, second = gradients(one, x), gradients(other, x)
    assert first.keys() == second.keys()
    for name, gradient in first.items():
        if gradient is None:
            assert second[name] is None, name
        else:
            torch.testing.assert_close(second[name], gradient)


def without_units(module: nn.Module, supernet: Supernet, width: float) -> nn.Module:
    """The module with zero for all that the prefix subnet leaves out, written without coordinates.

    Every cut dimension is one group of single units, as in a chain of linear layers.
    """
    masked = copy.deepcopy(module)
    with torch.no_grad():
        for name, tensor in masked.state_dict().items():
            for dim, cut in enumerate(supernet.cuts()[name]):
                if cut is not None:
                    first = int(width * supernet.sizes[cut.group] + 1e-6)
                    tensor.narrow(dim, first, tensor.shape[dim] - first).zero_()
    return masked


# ------------------------------------------------------------------------------- no_grad


class Doubled(nn.Module):
    """Adds twice its input, of which the gradient knows nothing."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            scale = x * 2
        return x + scale


class Frozen(nn.Module):
    """A layer that is never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.fixed = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            added = self.fixed(x)
        return x + added


def test_what_runs_under_no_grad_is_cut_and_gets_no_gradient():
    module = Chain(Doubled())
    supernet = Supernet(module, FEATURES)
    assert supernet.sizes == {"layers.0": 8}
    torch.testing.assert_close(supernet(FEATURES), module(FEATURES))
    assert_same_gradients(module, supernet, FEATURES)
    subnet = extract(supernet, 0.5)
    assert subnet.layers.get_submodule("0").weight.shape == (4, 5)
    torch.testing.assert_close(subnet(FEATURES), without_units(module, supernet, 0.5)(FEATURES))


def test_a_part_under_no_grad_can_be_kept_whole():
    module = Chain(Frozen(), nn.Identity())
    supernet = Supernet(module, FEATURES, keep=["between.0"])
    assert supernet.sizes == {"layers.1": 8}
    found = gradients(extract(supernet, 0.5), FEATURES)
    assert [name for name, gradient in found.items() if gradient is None] == [
        "between.0.fixed.weight",
        "between.0.fixed.bias",
    ]
    assert_same_gradients(module, supernet, FEATURES)


MODES = {
    "plain": lambda x: x * 2,
    "off": torch.no_grad()(lambda x: x * 2),
    "on within off": torch.no_grad()(lambda x: torch.enable_grad()(lambda y: y * 3)(x * 2)),
    "off within off": torch.no_grad()(lambda x: torch.no_grad()(lambda y: y * 3)(x * 2)),
}


class Moded(nn.Module):
    """Multiplies what comes in, in some mode, and adds it."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def forward(self, x: Tensor) -> Tensor:
        return x + MODES[self.mode](x)


@pytest.mark.fuzz
@FEW
@given(st.lists(st.sampled_from(sorted(MODES)), min_size=1, max_size=3), st.booleans())
def test_gradients_are_those_of_the_module_whatever_runs_under_which_mode(modes, training):
    module = Chain(*map(Moded, modes)).train(training)
    supernet = Supernet(module, FEATURES)
    assert supernet.sizes == {f"layers.{number}": 8 for number in range(len(modes))}
    torch.testing.assert_close(supernet(FEATURES), module(FEATURES))
    assert_same_gradients(module, supernet, FEATURES)


# ------------------------------------------------------------------------------- rotary embeddings


class Rotary(nn.Module):
    """Angles of positions, from a buffer outside of the state (arXiv:2104.09864)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        frequency = 10_000 ** (-torch.arange(0, size, 2).float() / size)
        self.register_buffer("frequency", frequency, persistent=False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        positions = torch.arange(x.shape[1], device=x.device).float()
        angles = torch.outer(positions, self.frequency)
        both = torch.cat([angles, angles], dim=-1)
        return both.cos(), both.sin()


class RotaryModel(nn.Module):
    """One layer of causal attention with four heads of four dimensions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 12)
        self.query, self.key, self.value = (nn.Linear(12, 16) for _ in range(3))
        self.merge, self.decoder = nn.Linear(16, 12), nn.Linear(12, 11)
        self.rotary = Rotary(4)

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.embedding(tokens)
        cosine, sine = self.rotary(states)

        def heads(layer: nn.Module) -> Tensor:
            return layer(states).unflatten(-1, (-1, 4)).transpose(1, 2)

        def turned(x: Tensor) -> Tensor:
            return x * cosine + torch.cat([-x[..., 2:], x[..., :2]], dim=-1) * sine

        query, key, value = turned(heads(self.query)), turned(heads(self.key)), heads(self.value)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.decoder(states + self.merge(attended.transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("keep", [[], ["rotary"]])
def test_rotary_embeddings_leave_the_heads_to_cut(keep):
    module, tokens = RotaryModel(), torch.arange(15).reshape(3, 5) % 11
    supernet = Supernet(module, tokens, keep=keep)
    assert supernet.sizes == {"embedding": 12, "query": 4}
    longer = torch.arange(14).reshape(2, 7) % 11
    torch.testing.assert_close(supernet(longer), module(longer))
    subnet = extract(supernet, 0.5, {"embedding": slice(12), "query": slice(2)})
    assert subnet.merge.weight.shape == (12, 8)
    masked = copy.deepcopy(module)
    with torch.no_grad():
        masked.merge.weight[:, 8:] = 0
    torch.testing.assert_close(subnet(longer), masked(longer))


# ------------------------------------------------------------------------------- normalised weights


def old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.nn.utils.weight_norm(layer)


NORMALISED = {
    "old weight_norm": old_weight_norm,
    "weight_norm": parametrizations.weight_norm,
    "old spectral_norm": torch.nn.utils.spectral_norm,
    "spectral_norm": parametrizations.spectral_norm,
}


def normalised_chain(kind: str, place: int) -> Chain:
    module = Chain(nn.Identity(), nn.Identity(), nn.Identity())
    module.layers[place] = NORMALISED[kind](module.layers[place])
    return module


def told(module: nn.Module) -> str:
    """What is said of the parts that stay whole: a refusal where little is left, or a warning."""
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            Supernet(module, FEATURES)
        except InputError as error:
            return str(error)
    return str(warned[-1].message)


@pytest.mark.parametrize("kind", NORMALISED)
def test_a_layer_with_normalised_weights_can_be_kept_whole(kind):
    """What the warning or the refusal says works as it is printed."""
    module = normalised_chain(kind, 1)
    text = told(module)
    assert re.search(r"layers.*cannot be cut: .* in module 'layers\.1", text)
    keep = re.findall(r"'([\w.]+)'", text.partition("keep=")[2])
    for parts in (keep or ["layers.1"], ["layers.1"]):
        supernet = Supernet(module, FEATURES, keep=parts)
        assert supernet.sizes["layers.2"] == 8
        assert "layers.0" not in supernet.sizes
        for training in (True, False):
            twin = copy.deepcopy(supernet).train(training)
            twin.load_state_dict(module.state_dict())
            own = normalised_chain(kind, 1).train(training)
            own.load_state_dict(module.state_dict())
            torch.testing.assert_close(twin(FEATURES), own(FEATURES))
            for name, buffer in own.named_buffers():  # A spectral norm goes on estimating.
                torch.testing.assert_close(twin.get_buffer(name), buffer)


@pytest.mark.parametrize("kind", ["old weight_norm", "weight_norm"])
def test_the_units_that_a_weight_norm_writes_can_be_cut(kind):
    module = normalised_chain(kind, 0)
    module(FEATURES).sum().backward()  # The weight is now no leaf of the graph.
    supernet = Supernet(module, FEATURES)
    assert list(supernet.sizes.values()) == [8, 8, 8]
    torch.testing.assert_close(supernet(FEATURES), module(FEATURES))
    scale = next(name for name in supernet.state_dict() if supernet.state_dict()[name].dim() == 2)
    assert extract(supernet, 0.5).state_dict()[scale].shape[0] == 4


@pytest.mark.parametrize("kind", ["old weight_norm", "weight_norm"])
def test_a_layer_with_a_weight_norm_is_scaled_as_one_without(kind):
    module = normalised_chain(kind, 0)
    module(FEATURES)
    plain = Chain(nn.Identity(), nn.Identity(), nn.Identity())
    with torch.no_grad():
        for layer, other in zip(plain.layers, module.layers, strict=True):
            layer.weight.copy_(other.weight)
            layer.bias.copy_(other.bias)
    outputs = []
    for network in (module, plain):
        subnet = extract(Supernet(network, FEATURES), 0.5).train()
        unscaled = subnet(FEATURES)
        with scaled(subnet, 0.5):
            outputs.append(subnet(FEATURES))
        assert not torch.allclose(outputs[-1], unscaled)
    torch.testing.assert_close(*outputs)


def test_a_module_that_cannot_be_copied_is_refused():
    module = Chain(nn.Identity())
    module.history = [module(FEATURES)]
    with pytest.raises(InputError, match=r"Chain cannot be copied.*copy.deepcopy\(\)"):
        Supernet(module, FEATURES)


# ------------------------------------------------------------------------------- randomness


class Noisy(nn.Module):
    """Draws numbers, in training alone or always."""

    def __init__(self, kind: str, always: bool) -> None:
        super().__init__()
        self.kind, self.always = kind, always

    def forward(self, x: Tensor) -> Tensor:
        on = self.always or self.training
        if self.kind == "dropout":
            return functional.dropout(x, 0.5, training=on)
        if self.kind == "noise":
            return x + 0.1 * torch.randn_like(x) if on else x
        if self.kind == "size":
            return x + torch.randn(x.shape) if on else x
        if self.kind == "coin":
            return x * torch.randint(0, 2, (1,)) if on else x
        if self.kind == "order":
            return x[:, torch.randperm(x.shape[1])] if on else x
        return x * torch.bernoulli(torch.full_like(x, 0.5)) if on else x


@pytest.mark.fuzz
@FEW
@given(
    st.lists(st.sampled_from(["dropout", "noise", "mask"]), min_size=1, max_size=3),
    st.data(),
)
def test_a_random_forward_is_blamed_for_being_random(kinds, data):
    always = data.draw(st.lists(st.booleans(), min_size=len(kinds), max_size=len(kinds)))
    module = Chain(*map(Noisy, kinds, always))
    if any(always):
        with pytest.raises(InputError, match=r"random numbers.*training=self\.training"):
            Supernet(module, FEATURES)
    else:
        supernet = Supernet(module, FEATURES).eval()
        torch.testing.assert_close(supernet(FEATURES), module.eval()(FEATURES))


@pytest.mark.parametrize("kind", ["size", "coin", "order"])
def test_randomness_is_named_before_what_else_is_wrong(kind):
    with pytest.raises(InputError, match=r"random numbers.*training=self\.training"):
        Supernet(Chain(Noisy(kind, always=True)), FEATURES)


def test_an_output_that_is_not_finite_is_named_as_such():
    class Infinite(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 0

    with pytest.raises(InputError, match="not finite"):
        Supernet(Chain(Infinite()), FEATURES)


# ------------------------------------------------------------------------------- names

OWN = [
    *sorted(set(dir(Supernet)) - set(dir(nn.Module)) - {"_abc_impl"}),
    "sizes",
    "n_outputs",
    "_blueprint",
    "_programs",
]


class Named(nn.Module):
    """A network whose parts have given names."""

    def __init__(self, hidden: str, activation: str) -> None:
        super().__init__()
        self.names = hidden, activation
        self._modules[hidden] = nn.Linear(5, 8)
        self._modules[activation] = nn.ReLU()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            x = self._modules[name](x)
        return self.head(x)


@pytest.mark.fuzz
@FEW
@given(st.sampled_from(OWN))
def test_operations_may_be_in_a_child_named_like_an_attribute(name):
    module = Named("hidden", name)
    supernet = Supernet(module, FEATURES)
    assert supernet.sizes == {"hidden": 8}
    torch.testing.assert_close(supernet(FEATURES), module(FEATURES))


class Shifting(nn.Module):
    """A network with a parameter and a buffer of given names, in itself or in a part."""

    def __init__(self, parameter: str, buffer: str) -> None:
        super().__init__()
        self.names = parameter, buffer
        self.body, self.head = nn.Linear(5, 8), nn.Linear(8, 3)
        self._parameters[parameter] = nn.Parameter(torch.linspace(-1, 1, 8))
        self._buffers[buffer] = torch.linspace(1, 2, 8)

    def reset_parameters(self) -> None:
        nn.init.ones_(self._parameters[self.names[0]])

    def forward(self, x: Tensor) -> Tensor:
        shift, scale = self._parameters[self.names[0]], self._buffers[self.names[1]]
        return self.head((self.body(x) * scale + shift).relu())


@pytest.mark.fuzz
@FEW
@given(st.sampled_from(OWN), st.sampled_from(OWN), st.sampled_from(["part", "tensors"]))
def test_what_holds_tensors_may_be_named_like_an_attribute(name, other, kind):
    assume(name != other)
    module = Named(name, other) if kind == "part" else Shifting(name, other)
    supernet = Supernet(module, FEATURES)
    torch.testing.assert_close(supernet(FEATURES), module(FEATURES))
    assert supernet.state_dict().keys() == module.state_dict().keys()
    assert_same_gradients(supernet, module, FEATURES)
    half = fresh(supernet, 0)
    for model in (supernet, copy.deepcopy(supernet), half):
        subnet = extract(model, 0.5)
        expected = without_units(module_of(model, module), model, 0.5)(FEATURES)
        torch.testing.assert_close(subnet(FEATURES), expected)
        for key, tensor in subnet.named_parameters():
            assert subnet.get_parameter(key) is tensor
    with pytest.raises(AttributeError, match="'gone' is no tensor"):
        supernet.get_parameter("gone")
    with pytest.raises(AttributeError, match="'gone' is no part"):
        supernet.get_parameter("gone.weight")


def module_of(model: SupernetModel, module: nn.Module) -> nn.Module:
    """A copy of a module with the weights of its supernet."""
    held = copy.deepcopy(module)
    held.load_state_dict(model.state_dict())
    return held


@pytest.mark.parametrize("engine", ["sequential", "batched"])
@pytest.mark.parametrize(
    "module", [Named("sizes", "build"), Named("n_outputs", "cuts"), Shifting("cuts", "sizes")]
)
def test_what_is_named_like_an_attribute_is_trained(engine, module):
    generator = torch.Generator().manual_seed(0)
    splits = [Split(torch.randn(6, 5, generator=generator), torch.arange(6) % 3) for _ in range(3)]
    task = Task("toy", ("a", "b", "c"), splits, splits, splits, np.ones((3, 3), dtype=int), 3)
    supernet = fresh(Supernet(module, FEATURES), 0)
    history = run(supernet, task, [0.5, 0.5, 1.0], rounds=1, execution=Execution(engine=engine))
    for name, before in supernet.named_parameters():
        assert not torch.equal(history.weights[name], before), name
    assert supernet.sizes == {next(iter(supernet.sizes)): 8}


# ------------------------------------------------------------------------------- versions


class Versioned(nn.Linear):
    """A layer that tells states of older versions from its own, as networks of libraries do."""

    _version = 2

    def _load_from_state_dict(self, state, prefix, metadata, *arguments) -> None:
        if metadata.get("version") not in (1, 2):
            raise ValueError(f"version should be 1 or 2 instead of {metadata.get('version')}")
        super()._load_from_state_dict(state, prefix, metadata, *arguments)


def test_a_layer_that_asks_for_its_version_is_traced():
    module = Chain(nn.Identity(), nn.Identity())
    module.layers[1] = Versioned(8, 8)
    supernet = Supernet(module, FEATURES)
    assert supernet.sizes == {"layers.0": 8, "layers.1": 8}
    torch.testing.assert_close(supernet(FEATURES), module(FEATURES))
    torch.testing.assert_close(
        extract(supernet, 0.5)(FEATURES), without_units(module, supernet, 0.5)(FEATURES)
    )


class VersionedMLP(MLP):
    """A supernet by hand with such layers."""

    def __init__(self, inputs: int, classes: int, hidden=(8, 8)) -> None:
        super().__init__(inputs, classes, hidden)
        self.layers[1] = Versioned(hidden[0], hidden[1])


@pytest.mark.fuzz
@FEW
@given(st.sampled_from([0.25, 0.5, 1.0]), st.integers(0, 9))
def test_states_without_versions_are_loaded(width, seed):
    model = fresh(VersionedMLP(5, 3), seed)
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = fresh(model, seed + 1)
    other.load_state_dict(plain)
    torch.testing.assert_close(other(FEATURES), model(FEATURES))
    assert isinstance(extract(model, width).layers[1], Versioned)
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict({name: plain[name] for name in list(plain)[1:]})


def test_an_old_version_is_still_refused():
    state = VersionedMLP(5, 3).state_dict()
    state._metadata["layers.1"]["version"] = 3
    with pytest.raises(ValueError, match="instead of 3"):
        VersionedMLP(5, 3).load_state_dict(state)


# ------------------------------------------------------------------------------- types of weights

TYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class Shifted(nn.Module):
    """Adds a constant outside of the state."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.linspace(0, 1, 3), persistent=False)
        self.chain = Chain(nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        return self.chain(x) + self.shift


@pytest.mark.fuzz
@FEW
@given(st.sampled_from(TYPES), st.sampled_from([0.25, 0.5, 1.0]))
def test_weights_of_every_type_are_cut_and_told_apart(dtype, width):
    module, batch = Shifted().to(dtype), FEATURES.to(dtype)
    supernet: SupernetModel = Supernet(module, batch)
    torch.testing.assert_close(supernet(batch), module(batch))
    subnet = extract(supernet, width)
    assert subnet(batch).dtype == dtype
    assert {tensor.dtype for tensor in subnet.state_dict().values()} == {dtype}
    other = copy.deepcopy(module)
    other.shift += 1
    assert Supernet(module, batch).architecture == supernet.architecture
    assert Supernet(other, batch).architecture != supernet.architecture


@given(st.sampled_from(TYPES), st.lists(st.integers(-100, 100), min_size=1, max_size=5))
def test_arrays_of_tensors_hold_every_bit(dtype, values):
    one = torch.tensor(values).to(dtype)
    other = one.clone()
    other[0] += 1
    assert as_array(one).tobytes() == as_array(one.clone()).tobytes()
    assert as_array(one).tobytes() != as_array(other).tobytes()
    assert as_array(one).nbytes == one.nbytes
