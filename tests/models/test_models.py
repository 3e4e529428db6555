"""Supernets: cutting to a width equals removing the cut units from the full model."""

import copy

import numpy as np
import pytest
import torch
from torch.nn import functional

from hasa_opt.errors import InputError
from hasa_opt.models import (
    CNN,
    MLP,
    MODELS,
    Cut,
    GRULanguageModel,
    LSTMLanguageModel,
    ResNet,
    SupernetModel,
    TaskModel,
    TransformerLanguageModel,
    coordinates,
    extract,
    fresh,
    locate,
    parameter_bytes,
    scatter,
    training_flops,
    units,
)
from hasa_opt.models.cuts import Coordinates

WIDTHS = (0.05, 0.2, 0.37, 0.5, 0.8, 1.0)
TEXT = ("lstm", "gru", "transformer")
torch.set_num_threads(1)


def make(kind: str) -> SupernetModel:
    builders = {
        "lstm": lambda: LSTMLanguageModel(13, embedding=7, hidden=10),
        "lstm2": lambda: LSTMLanguageModel(13, embedding=7, hidden=10, layers=2),
        "lstm_uneven": lambda: LSTMLanguageModel(13, embedding=7, hidden=(10, 6), layers=2),
        "gru": lambda: GRULanguageModel(13, embedding=7, hidden=(10, 6), layers=2),
        "transformer": lambda: TransformerLanguageModel(13, 80, (4, 2), (9, 14), head_size=3),
        "resnet": lambda: ResNet(5, (8, 12), in_channels=2),
        "resnet_norm": lambda: ResNet(5, (6, 9, 6), blocks=1, in_channels=2, norm_channels=3),
        "cnn": lambda: CNN(5, channels=(8, 12), in_channels=2, image_size=9),
        "cnn_norm": lambda: CNN(5, (12, 6), in_channels=2, image_size=9, norm_channels=3),
        "mlp": lambda: MLP(12, 4, hidden=(9, 11)),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return builders[kind]()


def make_inputs(kind: str, n: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    if kind.startswith(TEXT):
        return torch.randint(0, 13, (n, 8), generator=generator)
    shape = (n, 3, 4) if kind == "mlp" else (n, 2, 9, 9)
    return torch.randn(shape, generator=generator)


def first(count: int, total: int) -> torch.Tensor:
    mask = torch.zeros(total)
    mask[:count] = 1
    return mask


def masked_lstm(model: LSTMLanguageModel, tokens: torch.Tensor, width: float) -> torch.Tensor:
    """Full-width LSTM written out gate by gate; cut units are zeroed at every step."""
    keep = {group: max(1, int(width * size + 1e-6)) for group, size in model.sizes.items()}
    states = model.embedding.weight[tokens] * first(keep["embedding"], model.sizes["embedding"])
    for layer, lstm in enumerate(model.lstms):
        size = model.sizes[f"hidden{layer}"]
        mask = first(keep[f"hidden{layer}"], size)
        h, c = torch.zeros(len(tokens), size), torch.zeros(len(tokens), size)
        outputs = []
        for step in range(tokens.shape[1]):
            gates = states[:, step] @ lstm.weight_ih_l0.T + lstm.bias_ih_l0
            i, f, g, o = (gates + h @ lstm.weight_hh_l0.T + lstm.bias_hh_l0).split(size, dim=1)
            c = (torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)) * mask
            h = torch.sigmoid(o) * torch.tanh(c) * mask
            outputs.append(h)
        states = torch.stack(outputs, dim=1)
    return states @ model.decoder.weight.T + model.decoder.bias


def masked_gru(model: GRULanguageModel, tokens: torch.Tensor, width: float) -> torch.Tensor:
    """Full-width GRU written out gate by gate; cut units are zeroed at every step."""
    keep = {group: max(1, int(width * size + 1e-6)) for group, size in model.sizes.items()}
    states = model.embedding.weight[tokens] * first(keep["embedding"], model.sizes["embedding"])
    for layer, gru in enumerate(model.grus):
        size = model.sizes[f"hidden{layer}"]
        mask, h = first(keep[f"hidden{layer}"], size), torch.zeros(len(tokens), size)
        outputs = []
        for step in range(tokens.shape[1]):
            r, z, n = (states[:, step] @ gru.weight_ih_l0.T + gru.bias_ih_l0).split(size, dim=1)
            hr, hz, hn = (h @ gru.weight_hh_l0.T + gru.bias_hh_l0).split(size, dim=1)
            update = torch.sigmoid(z + hz)
            candidate = torch.tanh(n + torch.sigmoid(r + hr) * hn)
            h = ((1 - update) * candidate + update * h) * mask
            outputs.append(h)
        states = torch.stack(outputs, dim=1)
    return states @ model.decoder.weight.T + model.decoder.bias


def normalised(norm: torch.nn.LayerNorm, states: torch.Tensor, keep: int) -> torch.Tensor:
    """Layer normalisation over the first units; the others are zero."""
    kept = states[..., :keep]
    centred = kept - kept.mean(-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + norm.eps)
    result = scaled * norm.weight[:keep] + norm.bias[:keep]
    return functional.pad(result, (0, states.shape[-1] - keep))


def masked_transformer(
    model: TransformerLanguageModel, tokens: torch.Tensor, width: float
) -> torch.Tensor:
    """Full-width transformer written out head by head; cut heads and units are left out."""
    keep = {group: max(1, int(width * size + 1e-6)) for group, size in model.sizes.items()}
    time, size = tokens.shape[1], model.head_size
    stream = first(keep["embedding"], model.sizes["embedding"])
    states = (model.embedding.weight[tokens] + model.positions.weight[:time]) * stream
    ahead = torch.ones(time, time).triu(1).bool()
    for number, layer in enumerate(model.layers):
        inputs = normalised(layer.norm1, states, keep["embedding"])
        heads = model.sizes[f"heads{number}"]
        stacked = inputs @ layer.attend.weight.T + layer.attend.bias
        attended = torch.zeros(*tokens.shape, heads * size)
        for head in range(keep[f"heads{number}"]):
            q, k, v = (
                stacked[..., (part * heads + head) * size :][..., :size] for part in range(3)
            )
            scores = (q @ k.transpose(1, 2) / size**0.5).masked_fill(ahead, -torch.inf)
            attended[..., head * size : (head + 1) * size] = scores.softmax(-1) @ v
        states = (states + attended @ layer.merge.weight.T + layer.merge.bias) * stream
        hidden = normalised(layer.norm2, states, keep["embedding"]) @ layer.expand.weight.T
        hidden = functional.gelu(hidden + layer.expand.bias)
        hidden = hidden * first(keep[f"hidden{number}"], hidden.shape[-1])
        states = (states + hidden @ layer.contract.weight.T + layer.contract.bias) * stream
    states = normalised(model.norm, states, keep["embedding"])
    return states @ model.decoder.weight.T + model.decoder.bias


def masked_resnet(model: ResNet, images: torch.Tensor, width: float) -> torch.Tensor:
    """Full-width ResNet; after every convolution the cut channels are zeroed."""

    def keep(states: torch.Tensor, group: str) -> torch.Tensor:
        kept = max(1, int(width * model.sizes[group] + 1e-6)) * model.norm_channels
        return states * first(kept, states.shape[1])[:, None, None]

    def norm(part: torch.nn.GroupNorm, states: torch.Tensor) -> torch.Tensor:
        grouped = states.reshape(len(states), -1, model.norm_channels, *states.shape[2:])
        variance, mean = torch.var_mean(grouped, dim=(2, 3, 4), keepdim=True, correction=0)
        scaled = ((grouped - mean) / torch.sqrt(variance + part.eps)).reshape(states.shape)
        return scaled * part.weight[:, None, None] + part.bias[:, None, None]

    states = functional.conv2d(images, model.stem.weight, model.stem.bias, padding=1)
    states, below = keep(states, "channels0"), "channels0"
    for number, stage in enumerate(model.stages):
        for block, part in enumerate(stage):
            inner = keep(norm(part.norm1, states).clamp(min=0), below)
            stride = 2 if number and not block else 1
            inner = functional.conv2d(inner, part.conv1.weight, stride=stride, padding=1)
            inner = keep(inner, f"inner{number}_{block}")
            inner = keep(norm(part.norm2, inner).clamp(min=0), f"inner{number}_{block}")
            inner = functional.conv2d(inner, part.conv2.weight, padding=1)
            if stride == 2:
                states = functional.conv2d(states, part.shortcut.weight, stride=2)
            below = f"channels{number}"
            states = keep(states + inner, below)
    return states.mean((2, 3)) @ model.classifier.weight.T + model.classifier.bias


def masked_cnn(model: CNN, images: torch.Tensor, width: float) -> torch.Tensor:
    """Full-width CNN with the statistics of each normalisation group computed on its own."""
    states = images
    for stage, (conv, norm, _, _) in enumerate(model.stages):
        groups = model.sizes[f"channels{stage}"]
        states = functional.conv2d(states, conv.weight, conv.bias, padding=1)
        shape = states.shape
        grouped = states.reshape(shape[0], groups, -1)
        mean = grouped.mean(dim=2, keepdim=True)
        variance = ((grouped - mean) ** 2).mean(dim=2, keepdim=True)
        states = ((grouped - mean) / torch.sqrt(variance + norm.eps)).reshape(shape)
        states = states * norm.weight[:, None, None] + norm.bias[:, None, None]
        keep = max(1, int(width * groups + 1e-6)) * model.norm_channels
        states = (
            functional.max_pool2d(states.clamp(min=0), 2) * first(keep, shape[1])[:, None, None]
        )
    return states.reshape(len(images), -1) @ model.classifier.weight.T + model.classifier.bias


def masked_mlp(model: MLP, features: torch.Tensor, width: float) -> torch.Tensor:
    states = features.reshape(len(features), -1)
    *hidden, last = model.layers
    for layer in hidden:
        size = layer.out_features
        states = (states @ layer.weight.T + layer.bias).clamp(min=0)
        states = states * first(max(1, int(width * size + 1e-6)), size)
    return states @ last.weight.T + last.bias


KINDS = {
    "lstm": masked_lstm,
    "lstm2": masked_lstm,
    "lstm_uneven": masked_lstm,
    "gru": masked_gru,
    "transformer": masked_transformer,
    "resnet": masked_resnet,
    "resnet_norm": masked_resnet,
    "cnn": masked_cnn,
    "cnn_norm": masked_cnn,
    "mlp": masked_mlp,
}


def assert_same_state(left, right) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_width_one_is_bit_identical(kind):
    model = make(kind)
    subnet = extract(model, 1.0)
    assert_same_state(subnet.state_dict(), model.state_dict())
    assert torch.equal(subnet(make_inputs(kind)), model(make_inputs(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_subnet_holds_copies(kind):
    model = make(kind)
    before = copy.deepcopy(model.state_dict())
    for width in (0.5, 1.0):
        with torch.no_grad():
            for parameter in extract(model, width).parameters():
                parameter.add_(1)
    assert_same_state(model.state_dict(), before)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_subnet_output_and_gradients_equal_the_masked_supernet(kind, width):
    model, inputs = make(kind), make_inputs(kind)
    subnet = extract(model, width)
    actual, expected = subnet(inputs), KINDS[kind](model, inputs, width)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)

    weights = torch.randn(actual.shape, generator=torch.Generator().manual_seed(7))
    (actual * weights).sum().backward()
    (expected * weights).sum().backward()
    if kind.startswith(TEXT):
        model.embedding.weight.grad[0] = 0  # The row of the padding token is never trained.
    where = coordinates(model, width)
    full_gradients = {name: p.grad for name, p in model.named_parameters()}
    for name, parameter in subnet.named_parameters():
        kept = where[name].read(full_gradients[name])
        torch.testing.assert_close(parameter.grad, kept, atol=1e-5, rtol=1e-4, msg=name)


def brute_force_mask(model: SupernetModel, name: str, width: float) -> torch.Tensor:
    """Kept coordinates of a tensor, entry by entry from the declared cuts."""
    tensor = model.state_dict()[name]
    mask = np.ones(tensor.shape, dtype=bool)
    for dim, cut in enumerate(model.cuts()[name]):
        if cut is not None:
            size = model.sizes[cut.group]
            unit = np.arange(tensor.shape[dim]) // cut.span % size
            keep = unit < max(1, int(width * size + 1e-6))
            mask &= keep.reshape([-1 if d == dim else 1 for d in range(tensor.dim())])
    return torch.from_numpy(mask)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_scatter_leaves_other_coordinates_alone(kind, width):
    model = make(kind)
    subnet = extract(model, width)
    assert_same_state(scatter(model, width, subnet.state_dict()), model.state_dict())

    optimizer = torch.optim.SGD(subnet.parameters(), lr=0.5)
    subnet(make_inputs(kind)).logsumexp(dim=-1).sum().backward()
    optimizer.step()
    with torch.no_grad():
        for parameter in subnet.parameters():
            parameter.add_(0.25)
    before = copy.deepcopy(model.state_dict())
    after = scatter(model, width, subnet.state_dict())
    assert_same_state(model.state_dict(), before)
    for name in after:
        mask = brute_force_mask(model, name, width)
        assert torch.equal(after[name][~mask], before[name][~mask])
        assert torch.equal(after[name][mask], subnet.state_dict()[name].flatten())
        assert not torch.equal(after[name][mask], before[name][mask])


@pytest.mark.parametrize("kind", KINDS)
def test_coordinates_accept_any_set_of_units(kind):
    model = make(kind)
    generator = torch.Generator().manual_seed(11)
    kept = {g: torch.randperm(n, generator=generator)[: n // 2] for g, n in model.sizes.items()}
    permuted, prefix = locate(model, kept), coordinates(model, 0.5)
    for name, full in model.state_dict().items():
        expected = full
        for dim, cut in enumerate(model.cuts()[name]):
            if cut is not None:
                entries = torch.arange(full.shape[dim]).view(cut.blocks, -1, cut.span)
                entries = entries[:, kept[cut.group]].flatten()
                expected = expected.index_select(dim, entries)
        assert torch.equal(permuted[name].read(full), expected)
        assert permuted[name].shape == prefix[name].shape
        written, added = torch.zeros_like(full), torch.zeros_like(full)
        permuted[name].write(written, expected)
        permuted[name].add(added, expected)
        assert torch.equal(permuted[name].read(written), expected)
        assert torch.equal(added, written)
        assert written.count_nonzero() == expected.count_nonzero()


@pytest.mark.parametrize(
    ("width", "size", "kept"),
    [
        (0.29, 100, 29),
        (0.57, 100, 57),
        (0.1 + 0.2, 10, 3),
        (1 - 0.9, 10, 1),
        (0.2999, 10, 2),
        (0.999, 10, 9),
        (1.0, 10, 10),
        (0.01, 10, 1),
        (1e-12, 3, 1),
        (np.float32(0.29), 100, 29),
        (np.float64(0.8), 5, 4),
        (1, 7, 7),
    ],
)
def test_floor_rule(width, size, kept):
    model = MLP(3, 2, hidden=(size,))
    assert model.subnet_sizes(width) == {"hidden0": kept}
    assert extract(model, width).sizes == {"hidden0": kept}


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({}, r"kept lacks \['hidden0'\]"),
        ({"hidden0": slice(2), "other": slice(2)}, r"unknown names \['other'\]"),
        ({"hidden0": torch.tensor([0, 5])}, "must be units from 0 to 4"),
        ({"hidden0": torch.tensor([-1, 0])}, "must be units from 0 to 4"),
        ({"hidden0": torch.tensor([1, 1])}, "each at most once"),
        ({"hidden0": torch.tensor([0.5])}, "int64"),
        ({"hidden0": torch.ones(5, dtype=torch.bool)}, "int64"),
    ],
)
def test_kept_units_that_are_none_are_refused(kept, message):
    with pytest.raises(InputError, match=message):
        extract(MLP(3, 2, hidden=(5,)), 0.5, kept)


@pytest.mark.parametrize("width", [0, -0.1, 1.0001, float("nan"), float("inf"), "half", None])
@pytest.mark.parametrize("function", [extract, coordinates, units, parameter_bytes])
def test_width_outside_the_range(function, width):
    with pytest.raises(InputError, match=r"outside \(0, 1\]"):
        function(make("mlp"), width)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MLP(3, 0), "n_outputs = 0"),
        (lambda: MLP(0, 2), "inputs = 0"),
        (lambda: MLP(3, 2, hidden=()), "hidden is empty"),
        (lambda: MLP(3, 2, hidden=(4, 0)), "hidden1 = 0"),
        (lambda: LSTMLanguageModel(9, embedding=0), "embedding = 0"),
        (lambda: LSTMLanguageModel(9, layers=0), "0 layers"),
        (lambda: LSTMLanguageModel(9, hidden=(3, 4), layers=1), "1 layers"),
        (lambda: LSTMLanguageModel(9, dropout=1.0), "dropout = 1.0"),
        (lambda: GRULanguageModel(9, hidden=(3, 4), layers=1), "1 layers"),
        (lambda: TransformerLanguageModel(9, 10, heads=4), "does not divide into"),
        (lambda: TransformerLanguageModel(9, heads=(2, 4), layers=3), "heads = .* 3 layers"),
        (lambda: TransformerLanguageModel(9, context=0), "context = 0"),
        (lambda: TransformerLanguageModel(9, dropout=-0.1), "dropout = -0.1"),
        (lambda: ResNet(3, channels=(5,)), "norm_channels = 2"),
        (lambda: ResNet(3, channels=()), "at least one"),
        (lambda: ResNet(3, blocks=0), "blocks = 0"),
        (lambda: CNN(3, channels=(5,)), "norm_channels = 2"),
        (lambda: CNN(3, norm_channels=0), "norm_channels = 0"),
        (lambda: CNN(3, in_channels=0), "in_channels = 0"),
        (lambda: CNN(3, image_size=3), "images of 3 pixels"),
        (lambda: CNN(3, channels=()), "0 stages"),
        (lambda: CNN(3, channels=(0,)), "channels0 = 0"),
    ],
)
def test_bad_sizes(build, message):
    with pytest.raises(InputError, match=message):
        build()


def test_scatter_refuses_a_foreign_state():
    model = make("mlp")
    state = extract(model, 0.5).state_dict()
    with pytest.raises(InputError, match=r"shape \(4, 12\).*\(2, 12\)"):
        scatter(model, 0.3, state)
    name, tensor = state.popitem()
    with pytest.raises(InputError, match=name):
        scatter(model, 0.5, state)
    with pytest.raises(InputError, match=r"unknown names \['extra'\]"):
        scatter(model, 0.5, {**state, name: tensor, "extra": tensor})


def test_wrong_cuts_are_refused(monkeypatch):
    model = make("mlp")
    cuts = model.cuts()
    monkeypatch.setattr(model, "cuts", lambda: {**cuts, "layers.0.bias": (Cut("hidden1"),)})
    with pytest.raises(InputError, match=r"layers\.0\.bias"):
        extract(model, 0.5)
    cuts.pop("layers.0.bias")
    monkeypatch.setattr(model, "cuts", lambda: cuts)
    with pytest.raises(InputError, match=r"lacks \['layers\.0\.bias'\]"):
        extract(model, 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_fresh_depends_on_the_seed_alone(kind):
    model = make(kind)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = fresh(model, 1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again, other = fresh(model, 1), fresh(model, 2)
    assert_same_state(one.state_dict(), again.state_dict())
    assert {n: t.shape for n, t in one.state_dict().items()} == {
        n: t.shape for n, t in model.state_dict().items()
    }
    name = next(iter(model.state_dict()))
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])


@pytest.mark.parametrize("kind", KINDS)
def test_extract_keeps_mode_type_and_random_state(kind):
    model = make(kind).double().eval()
    before = torch.get_rng_state()
    subnet = extract(model, 0.5)
    assert torch.equal(torch.get_rng_state(), before)
    assert not subnet.training
    assert {p.dtype for p in subnet.parameters()} == {torch.float64}
    assert all(p.requires_grad for p in subnet.parameters())


def test_dropout_survives_the_cut():
    subnet = extract(LSTMLanguageModel(13, 8, 8, dropout=0.25), 0.5)
    assert subnet.dropout.p == 0.25
    assert subnet.embedding.padding_idx == 0


def test_transformer_does_not_look_ahead_nor_beyond_its_context():
    model, tokens = make("transformer"), make_inputs("transformer")
    changed = tokens.clone()
    changed[:, 5:] = 1 + tokens[:, 5:] % 12
    assert torch.equal(model(tokens)[:, :5], model(changed)[:, :5])
    assert not torch.equal(model(tokens)[:, 5:], model(changed)[:, 5:])
    with pytest.raises(InputError, match="129 tokens exceed context = 128"):
        model(torch.ones(1, 129, dtype=torch.int64))


def test_tied_parameters_stay_tied():
    class Tied(LSTMLanguageModel):
        def __init__(self, *arguments, **options) -> None:
            super().__init__(*arguments, **options)
            self.decoder.weight = self.embedding.weight

        def cuts(self):
            return {**super().cuts(), "decoder.weight": (None, Cut("embedding"))}

    subnet = extract(Tied(13, 8, 8), 0.5)
    assert subnet.decoder.weight is subnet.embedding.weight
    assert len(list(subnet.parameters())) == 6
    assert subnet(make_inputs("lstm")).shape == (6, 8, 13)


def test_units_and_bytes():
    model = make("lstm2")
    assert units(model, 1.0) == 7 + 10 + 10
    assert units(model, 0.5) == 3 + 5 + 5
    expected = sum(t.numel() * 4 for t in extract(model, 0.5).state_dict().values())
    assert parameter_bytes(model, 0.5) == expected
    assert parameter_bytes(model.double(), 0.5) == 2 * expected


def test_mlp_flops_by_hand():
    model = MLP(12, 4, hidden=(10, 20))
    forward = 2 * (12 * 5 + 5 * 10 + 10 * 4)
    backward = 2 * forward - 2 * 12 * 5  # No gradient flows to the inputs.
    assert training_flops(model, 0.5, torch.zeros(1, 12)) == forward + backward


def test_lstm_flops_by_hand():
    model = LSTMLanguageModel(13, embedding=6, hidden=10)
    steps, embedding, hidden = 8, 3, 5
    from_inputs = 2 * steps * embedding * 4 * hidden
    from_states = 2 * steps * hidden * 4 * hidden
    decoder = 2 * steps * hidden * 13
    no_gradient = from_states // steps  # The initial state needs none.
    expected = 3 * (from_inputs + from_states + decoder) - no_gradient
    actual = training_flops(model, 0.5, torch.ones(1, steps, dtype=torch.int64))
    assert actual == expected


def test_cnn_flops_by_hand():
    model = CNN(5, channels=(8,), in_channels=3, image_size=6)
    convolution = 2 * 36 * 4 * 3 * 9
    classifier = 2 * 4 * 9 * 5
    expected = 2 * convolution + 3 * classifier
    assert training_flops(model, 0.5, torch.zeros(1, 3, 6, 6)) == expected


def test_flops_grow_with_width_and_leave_the_model_alone():
    model = make("cnn")
    before, state = torch.get_rng_state(), copy.deepcopy(model.state_dict())
    flops = [training_flops(model, width, make_inputs("cnn", 1)) for width in (0.25, 0.5, 1.0)]
    assert flops == sorted(set(flops))
    assert torch.equal(torch.get_rng_state(), before)
    assert_same_state(model.state_dict(), state)
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(
    ("kind", "sample"),
    [
        ("mlp", torch.zeros(1, 11)),
        ("cnn", torch.zeros(1, 1, 9, 9)),
        ("lstm", torch.full((1, 4), 13)),
    ],
)
def test_flops_of_an_unsuitable_sample(kind, sample):
    with pytest.raises(InputError, match="cannot process an input"):
        training_flops(make(kind), 0.5, sample)


def test_registry():
    assert {"lstm", "gru", "transformer", "cnn", "resnet", "mlp"} <= set(MODELS)
    tokens, images = torch.ones(3, 6, dtype=torch.int64), torch.zeros(3, 2, 8, 8)
    for name, kind in MODELS.items():
        inputs = tokens if name in TEXT else images
        model = kind.for_data(inputs, 9)
        assert isinstance(model, TaskModel)
        assert model.n_outputs == 9
        assert extract(model, 0.5)(inputs).shape == (*inputs.shape[: inputs.dim() // 2 % 2 + 1], 9)
        with pytest.raises(InputError, match="reads"):
            kind.for_data(images if name in TEXT else tokens, 9)


def test_coordinates_of_a_prefix_are_plain_slices():
    for place in coordinates(make("cnn"), 0.5).values():
        assert isinstance(place, Coordinates)
        assert all(isinstance(selection, slice) for selection in place.index)
