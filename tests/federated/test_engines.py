"""Engines: training clients together gives what training them one after another gives."""

import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from hasa_opt.federated import ENGINES, Execution, Job, LocalTraining, run
from hasa_opt.federated import engines as batched_module
from hasa_opt.federated.batches import ClientDropout, output_layer, summed_loss
from hasa_opt.federated.stacked_layers import LAYERS
from hasa_opt.models import CNN, MLP, Cut, LSTMLanguageModel, SupernetModel, fresh, prefix
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)

WIDTHS = [0.5, 1.0, 0.5, 0.25, 1.0, 0.5, 0.25, 0.5]
SIZES = [13, 40, 8, 25, 31, 7, 30, 1]


def features(*shape, classes=5):
    def split(n: int, seed: int) -> Split:
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(n, *shape, generator=generator)
        return Split(inputs, torch.randint(0, classes, (n,), generator=generator))

    return split


def texts(n: int, seed: int) -> Split:
    """Sentences of one to eight words out of eleven, some targets outside the vocabulary."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(1, 11, (n, 9), generator=generator)
    padding = torch.arange(8) >= torch.randint(1, 9, (n, 1), generator=generator)
    targets = tokens[:, 1:].masked_fill(torch.rand(n, 8, generator=generator) < 0.1, -1)
    return Split(tokens[:, :-1].masked_fill(padding, 0), targets.masked_fill(padding, -100))


def jobs_of(model, make_split, widths=WIDTHS, sizes=SIZES, number=0, choose=prefix):
    for client, (width, n) in enumerate(zip(widths, sizes, strict=True)):
        yield Job(client, width, choose(model, width), make_split(n, client), (3, number, client))


def assert_same(left, right, atol=1e-5) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=0, atol=atol, msg=name)


def assert_engines_agree(model, make_split, settings, method, **options) -> None:
    """One round of each engine; ``method`` is how the batched one trained clients with an equal."""
    alone, together = (
        list(ENGINES[name](model, jobs_of(model, make_split, **options), settings))
        for name in ("sequential", "batched")
    )
    assert {report.method for report in alone} == {"sequential"}
    assert {report.method for report in together} == {method}
    for one, other in zip(alone, together, strict=True):
        assert one.job.key == other.job.key
        assert one.result.n_steps == other.result.n_steps
        assert other.result.loss == pytest.approx(one.result.loss, abs=1e-5, nan_ok=True)
        assert other.result.seconds > 0
        assert_same(one.state, other.state)


MODELS = {
    "mlp": (MLP(6, 5, hidden=(8, 12)), features(6)),
    "cnn": (CNN(5, channels=(8, 16), image_size=8), features(1, 8, 8)),
    "lstm": (LSTMLanguageModel(11, embedding=8, hidden=12), texts),
    "lstm with dropout": (LSTMLanguageModel(11, 8, 12, layers=2, dropout=0.3), texts),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "optimizer"), [*itertools.product(MODELS, ["adam"]), ("cnn", "sgd"), ("lstm", "sgd")]
)
def test_five_rounds_give_the_same_weights(kind, optimizer):
    model, make_split = MODELS[kind]
    parts = [
        tuple(make_split(n // share + 1, 10 * c + share) for c, n in enumerate(SIZES))
        for share in (1, 9, 8)
    ]
    names = tuple("abcdefgh")
    counts = np.ones((8, model.n_outputs), dtype=np.int64)
    task = Task("toy", names, *parts, counts=counts, n_outputs=model.n_outputs)
    rate = 0.005 if optimizer == "adam" else 0.1
    training = LocalTraining(batch_size=10, optimizer=optimizer, learning_rate=rate)
    options = {"rounds": 5, "training": training, "seed": 4}
    alone, together = (
        run(fresh(model, seed=1), task, WIDTHS, execution=Execution(engine=engine), **options)
        for engine in ("sequential", "batched")
    )
    assert_same(alone.weights, together.weights)
    np.testing.assert_allclose(together.train_loss, alone.train_loss, rtol=0, atol=1e-5)
    jobs = jobs_of(fresh(model, seed=1), make_split)
    methods = {report.method for report in ENGINES["batched"](model, jobs, LocalTraining())}
    assert methods == {"folded"}
    moved = fresh(model, seed=1).state_dict()
    assert max(float((moved[k] - alone.weights[k]).abs().max()) for k in moved) > 0.01


class Toy(SupernetModel):
    """A network with one width group, of which a subclass declares the layers and the cuts."""

    CUTS = {}  # noqa: RUF012

    def __init__(self, hidden=8, n_outputs=5):
        super().__init__({"hidden": hidden}, n_outputs)
        self.make(hidden)

    def build(self, sizes):
        return type(self)(sizes["hidden"], self.n_outputs)

    def cuts(self):
        found = {}
        for name, tensor in self.state_dict().items():
            dims = self.CUTS.get(name, "." * tensor.dim())
            found[name] = tuple(
                None if d == "." else Cut("hidden", blocks=int(d) if d.isdigit() else 1)
                for d in dims
            )
        return found

    @classmethod
    def for_data(cls, inputs, n_outputs, **options):
        return cls(n_outputs=n_outputs)


class Scaled(Toy):
    """Multiplies by a parameter of its own: vmap takes it, folding does not."""

    CUTS = {"first.weight": "h.", "first.bias": "h", "scale": "h", "last.weight": ".h"}  # noqa: RUF012

    def make(self, hidden):
        self.first, self.last = nn.Linear(6, hidden), nn.Linear(hidden, self.n_outputs)
        self.scale = nn.Parameter(torch.full((hidden,), 1.5))

    def forward(self, x):
        return self.last((self.first(x) * self.scale).tanh())


class Mixing(Toy):
    """Subtracts the mean of the batch, so that missing samples would be seen."""

    CUTS = {"first.weight": "h.", "first.bias": "h", "last.weight": ".h"}  # noqa: RUF012

    def make(self, hidden):
        self.first, self.last = nn.Linear(6, hidden), nn.Linear(hidden, self.n_outputs)

    def forward(self, x):
        hidden = self.first(x).tanh()
        return self.last(hidden - hidden.mean(0))


class Normalised(Mixing):
    """Batch statistics in a module with buffers."""

    CUTS = Mixing.CUTS | dict.fromkeys(
        ("norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"), "h"
    )

    def make(self, hidden):
        super().make(hidden)
        self.norm = nn.BatchNorm1d(hidden)

    def forward(self, x):
        return self.last(self.norm(self.first(torch.cat([x, -x]))).relu()[: len(x)])


class Noisy(Mixing):
    """Draws from the global generator."""

    def forward(self, x):
        hidden = self.first(x).tanh()
        return self.last(hidden + 0.1 * torch.randn_like(hidden))


class Layers(Toy):
    """LayerNorm, convolution over time, GRU, no biases."""

    CUTS = {  # noqa: RUF012
        "embedding.weight": ".h",
        "convolution.weight": "hh.",
        "gru.weight_ih_l0": "3h",
        "gru.weight_hh_l0": "3h",
        "last.weight": ".h",
    }

    def make(self, hidden):
        self.embedding = nn.Embedding(11, hidden, padding_idx=0)
        self.convolution = nn.Conv1d(hidden, hidden, 1, bias=False)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bias=False)
        self.last = nn.Linear(hidden, self.n_outputs, bias=False)

    def forward(self, tokens):
        states = self.convolution(self.embedding(tokens).transpose(1, 2)).transpose(1, 2)
        return self.last(functional.layer_norm(self.gru(states)[0], states.shape[2:]))


class Backwards(Toy):
    """Reads from right to left: padding comes first."""

    CUTS = Layers.CUTS

    make = Layers.make

    def forward(self, tokens):
        return self.last(self.gru(self.embedding(tokens.flip(1)) + 1)[0].flip(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "method"),
    [
        (Scaled, "mapped"),
        (Mixing, "sequential"),
        (Normalised, "sequential"),
        (Noisy, "sequential"),
        (Layers, "folded"),
        (Backwards, "sequential"),
    ],
)
def test_other_models_train_together_or_visibly_alone(kind, method):
    text = kind in (Layers, Backwards)
    model = fresh(kind(n_outputs=11 if text else 5), seed=2)
    settings = LocalTraining(epochs=2, batch_size=4, learning_rate=0.01)
    sizes = [n + 1 for n in SIZES]
    assert_engines_agree(model, texts if text else features(6), settings, method, sizes=sizes)


def test_other_units_of_equal_number_are_stacked():
    model = fresh(MLP(6, 5, hidden=(8, 12)), seed=1)
    numbers = itertools.count()

    def choose(model, width):
        drawn = torch.Generator().manual_seed(next(numbers) % len(WIDTHS))
        return {
            group: torch.randperm(model.sizes[group], generator=drawn)[:count].sort().values
            for group, count in model.subnet_sizes(width).items()
        }

    settings = LocalTraining(epochs=1, batch_size=10, learning_rate=0.01)
    assert_engines_agree(model, features(6), settings, "folded", choose=choose)


@pytest.mark.parametrize("drop_last", ["single", True])
@pytest.mark.parametrize("kind", ["mlp", "lstm with dropout"])
def test_engines_agree_where_last_batches_are_left_out(kind, drop_last):
    model, make_split = MODELS[kind]
    sizes, widths = [13, 40, 10, 25, 31, 12, 21], [0.5] * 7
    training = LocalTraining(epochs=2, batch_size=10, drop_last=drop_last, learning_rate=0.01)
    options = {"widths": widths, "sizes": sizes}
    assert_engines_agree(fresh(model, seed=1), make_split, training, "folded", **options)
    jobs = jobs_of(fresh(model, seed=1), make_split, **options)
    results = [report.result for report in ENGINES["batched"](fresh(model, seed=1), jobs, training)]
    used = [10, 40, 10, 20, 30, 10, 20] if drop_last is True else [13, 40, 10, 25, 30, 12, 20]
    assert [result.trained for result in results] == [{0.5: 2 * n} for n in used]
    assert [result.n_steps for result in results] == [2 * -(-n // 10) for n in used]


def test_who_has_no_equal_is_trained_alone():
    model = fresh(MLP(6, 5, hidden=(8,)), seed=1)
    jobs = jobs_of(model, features(6), [0.5, 1.0, 0.5], [10, 20, 30])
    reports = list(ENGINES["batched"](model, jobs, LocalTraining()))
    assert [report.method for report in reports] == ["folded", "sequential", "folded"]
    assert [report.job.client for report in reports] == [0, 1, 2]


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_leave_server_and_random_state_alone(engine):
    model = fresh(LSTMLanguageModel(11, 8, 12, dropout=0.2), seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(9)
    state = torch.get_rng_state()
    first, second = (
        list(ENGINES[engine](model, jobs_of(model, texts), LocalTraining())) for _ in range(2)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert_same(before, model.state_dict(), atol=0)
    for one, other in zip(first, second, strict=True):
        assert_same(one.state, other.state, atol=0)


def test_the_end_of_training_is_the_end():
    """A client's momentum must not carry it on while others still train."""
    model = fresh(MLP(6, 5, hidden=(8,)), seed=1)
    settings = LocalTraining(epochs=1, batch_size=5, learning_rate=0.05)
    reports = [
        next(ENGINES["batched"](model, jobs_of(model, features(6), [1, 1], sizes), settings))
        for sizes in ([5, 5], [5, 500])
    ]
    assert [report.method for report in reports] == ["folded", "folded"]
    assert_same(reports[0].state, reports[1].state, atol=1e-7)


def test_small_windows_and_chunks_change_nothing(monkeypatch):
    model = fresh(MLP(6, 5, hidden=(8, 12)), seed=1)
    settings = LocalTraining(epochs=2, batch_size=10)
    whole = list(ENGINES["batched"](model, jobs_of(model, features(6)), settings))
    monkeypatch.setattr(batched_module, "CHUNK_BYTES", 1)
    monkeypatch.setattr(batched_module, "WINDOW_JOBS", 5)
    parts = list(ENGINES["batched"](model, jobs_of(model, features(6)), settings))
    for one, other in zip(whole, parts, strict=True):
        assert_same(one.state, other.state, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "most"), [("sequential", 2), ("batched", 9), ("auto", 9)])
def test_splits_are_held_while_they_are_needed(engine, most, monkeypatch):
    monkeypatch.setattr(batched_module, "WINDOW_JOBS", 8)
    model = fresh(MLP(6, 5, hidden=(8,)), seed=1)
    alive: list[weakref.ref] = []

    def make_split(n, seed):
        split = features(6)(n, seed)
        alive.append(weakref.ref(split))
        return split

    reports = ENGINES[engine](
        model, jobs_of(model, make_split, [0.5] * 40, [7] * 40), LocalTraining()
    )
    held = [sum(ref() is not None for ref in alive) for _ in reports]
    gc.collect()
    assert max(held) <= most
    assert sum(ref() is not None for ref in alive) == 0


def test_nothing_outlives_the_server():
    model = fresh(MLP(6, 5, hidden=(8,)), seed=1)
    list(ENGINES["auto"](model, jobs_of(model, features(6)), LocalTraining()))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_auto_stacks_many_small_clients_and_no_large_ones():
    def methods(hidden, widths, sizes):
        model = fresh(MLP(6, 5, hidden=hidden), seed=1)
        jobs = jobs_of(model, features(6), widths, sizes)
        return [r.method for r in ENGINES["auto"](model, jobs, LocalTraining(batch_size=10))]

    assert methods((8,), [0.5] * 6, [20] * 6) == ["folded"] * 6
    assert methods((2048, 2048), [1.0] * 4, [10] * 4) == ["sequential"] * 4
    assert methods((8,), [0.5] * 5, [20, 400, 20, 20, 20]) == [
        "folded", "sequential", "folded", "folded", "folded",
    ]  # fmt: skip


@pytest.mark.parametrize("model", [LSTMLanguageModel(11, 8, 12), Layers(n_outputs=11)])
def test_the_loss_at_known_positions_is_the_whole_loss(model):
    split = texts(20, 5)
    head = output_layer(model, split)
    assert isinstance(head, nn.Linear)
    assert head.out_features == 11
    results = []
    for layer in (None, head):
        model.zero_grad()
        loss, count = summed_loss(model, layer, split.inputs, split.targets)
        loss.backward()
        results.append((loss.detach(), count, [p.grad.clone() for p in model.parameters()]))
    assert results[0][1] == results[1][1] == int((split.targets >= 0).sum())
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][2], results[1][2])
    assert not head._forward_pre_hooks


def test_the_output_layer_is_the_last_thing_or_unknown():
    class Ending(Layers):
        def forward(self, tokens):
            return super().forward(tokens) * 2

    assert output_layer(Ending(n_outputs=11), texts(4, 0)) is None
    assert output_layer(MLP(6, 5), features(6)(4, 0)) is None


def test_a_batch_without_known_targets_changes_nothing():
    model = fresh(LSTMLanguageModel(11, 8, 12), seed=1)

    def unknown(n, seed):
        return Split(torch.ones(n, 4, dtype=torch.int64), torch.full((n, 4), -1))

    settings = LocalTraining(epochs=1, batch_size=4, learning_rate=0.1, optimizer="sgd")
    options = {"widths": [0.5, 0.5], "sizes": [4, 9]}
    assert_engines_agree(model, unknown, settings, "folded", **options)
    loss, count = summed_loss(model, model.decoder, *vars(unknown(2, 0)).values())
    assert (float(loss.detach()), count) == (0.0, 0)


def test_dropout_keeps_the_mean_and_follows_its_seed():
    ones = torch.ones(200, 50)
    with ClientDropout(1):
        first = functional.dropout(ones, 0.25)
    with ClientDropout(1):
        again, second = functional.dropout(ones, 0.25), functional.dropout(ones, 0.25)
        assert functional.dropout(ones, 0.25, training=False) is ones
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert first.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    assert float((first == 0).float().mean()) == pytest.approx(0.25, abs=0.02)


CLIENTS, BATCH = 3, 4


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(7))


def recurrent(function, gates, layers, biases):
    def call(x, *weights):
        states = x.new_zeros(layers, len(x), 5)
        hx = [states, states] if function is torch.lstm else states
        return function(x, hx, list(weights), biases, layers, 0.0, True, False, True)[0]

    shapes = []
    for layer in range(layers):
        shapes += [(gates * 5, 5 if layer else 6), (gates * 5, 5)]
        shapes += [(gates * 5,), (gates * 5,)] if biases else []
    return function, call, (6, 6), shapes


CASES = {
    "linear": (functional.linear, functional.linear, (7, 6), [(5, 6), (5,)]),
    "linear without bias": (functional.linear, functional.linear, (6,), [(5, 6)]),
    "convolution": (
        functional.conv2d,
        lambda x, w, b: functional.conv2d(x, w, b, stride=2, padding=1, groups=2),
        (4, 9, 9),
        [(6, 2, 3, 3), (6,)],
    ),
    "convolution over time": (
        functional.conv1d,
        lambda x, w: functional.conv1d(x, w, dilation=2),
        (4, 9),
        [(6, 4, 3)],
    ),
    "group norm": (
        functional.group_norm,
        lambda x, w, b: functional.group_norm(x, 2, w, b),
        (4, 5, 5),
        [(4,), (4,)],
    ),
    "layer norm": (
        functional.layer_norm,
        lambda x, w, b: functional.layer_norm(x, (6,), w, b),
        (7, 6),
        [(6,), (6,)],
    ),
    "lstm": recurrent(torch.lstm, 4, 2, True),
    "lstm without biases": recurrent(torch.lstm, 4, 1, False),
    "gru": recurrent(torch.gru, 3, 2, True),
}


@pytest.mark.parametrize("case", CASES)
def test_stacked_layers_equal_separate_ones(case, monkeypatch):
    function, call, shape, shapes = CASES[case]
    inputs = double(CLIENTS * BATCH, *shape).requires_grad_()
    weights = [double(CLIENTS, *own).mul(0.5).requires_grad_() for own in shapes]
    separate = torch.cat(
        [
            call(inputs[c * BATCH : (c + 1) * BATCH], *(w[c] for w in weights))
            for c in range(CLIENTS)
        ]
    )

    class Stacking(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is function:
                return LAYERS[func](CLIENTS, *args, **(kwargs or {}))
            return func(*args, **(kwargs or {}))

    with Stacking():
        together = call(inputs, *weights)
    torch.testing.assert_close(together, separate)
    towards = double(*separate.shape).cos()
    expected = torch.autograd.grad(separate, [inputs, *weights], towards)
    actual = torch.autograd.grad(together, [inputs, *weights], towards)
    torch.testing.assert_close(actual, expected)


def test_stacked_embeddings_do_not_train_the_padding():
    tokens = torch.tensor([[0, 1, 2], [2, 0, 1], [3, 3, 0]])
    tables = double(3, 4, 2).requires_grad_()
    together = LAYERS[functional.embedding](3, tokens, tables, 0)
    separate = torch.cat([functional.embedding(tokens[c : c + 1], tables[c], 0) for c in range(3)])
    torch.testing.assert_close(together, separate)
    towards = double(*separate.shape)
    (actual,) = torch.autograd.grad(together, tables, towards)
    (expected,) = torch.autograd.grad(separate, tables, towards)
    torch.testing.assert_close(actual, expected)
    assert not actual[:, 0].any()


def test_summed_loss_skips_unknown_targets():
    logits = double(3, 4)
    loss, count = summed_loss(nn.Identity(), None, logits, torch.tensor([2, -1, -100]))
    assert count == 1
    torch.testing.assert_close(loss, -logits[0].log_softmax(0)[2])
