"""BatchNorm in subnets: statistics are made for each width, and never averaged across widths."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import TIMES, key_of
from torch import nn
from torch.nn import functional

from hasa_opt import models
from hasa_opt.errors import InputError
from hasa_opt.federated import (
    ENGINES,
    Evaluation,
    Execution,
    LocalTraining,
    Subnets,
    Update,
    aggregate,
    estimate_statistics,
    evaluate,
    local_train,
    run,
)
from hasa_opt.federated.batch_norm import PerWidth, Static
from hasa_opt.federated.units import uniform_fifths
from hasa_opt.models import MLP, Cut, SupernetModel, extract, fresh, prefix
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


class NormedCNN(SupernetModel):
    """Two convolutions, each with BatchNorm, then the mean over the image and a classifier."""

    def __init__(self, sizes=(6, 8)) -> None:
        super().__init__({"channels0": sizes[0], "channels1": sizes[1]}, 3)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(below, above, 3, padding=1)
            for below, above in ((1, sizes[0]), (sizes[0], sizes[1]))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(size, momentum=0.3) for size in sizes)
        self.dropout = nn.Dropout(0.2)  # after the last BatchNorm: no estimate sees it
        self.classifier = nn.Linear(sizes[1], 3)

    @classmethod
    def for_data(cls, inputs, n_outputs, **options):
        return cls(**options)

    def forward(self, images):
        states = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            states = torch.relu(norm(convolution(states)))
        return self.classifier(self.dropout(states.mean((2, 3))))

    def cuts(self):
        cuts, below = {}, None
        for at in (0, 1):
            own = Cut(f"channels{at}")
            cuts[f"convolutions.{at}.weight"] = (own, below, None, None)
            for name in ("weight", "bias", "running_mean", "running_var"):
                cuts[f"norms.{at}.{name}"] = (own,)
            cuts |= {f"convolutions.{at}.bias": (own,), f"norms.{at}.num_batches_tracked": ()}
            below = own
        return cuts | {"classifier.weight": (None, below), "classifier.bias": (None,)}

    def build(self, sizes):
        return NormedCNN((sizes["channels0"], sizes["channels1"]))


class NormedMLP(SupernetModel):
    """One hidden layer with BatchNorm: a batch of one sample has no variance."""

    def __init__(self, hidden=8) -> None:
        super().__init__({"hidden": hidden}, 3)
        self.below, self.norm = nn.Linear(16, hidden), nn.BatchNorm1d(hidden)
        self.above = nn.Linear(hidden, 3)

    @classmethod
    def for_data(cls, inputs, n_outputs, **options):
        return cls(**options)

    def forward(self, features):
        return self.above(torch.relu(self.norm(self.below(features.flatten(1)))))

    def cuts(self):
        own, names = Cut("hidden"), ("weight", "bias", "running_mean", "running_var")
        cuts = {f"norm.{name}": (own,) for name in names}
        cuts |= {"norm.num_batches_tracked": (), "below.weight": (own, None), "below.bias": (own,)}
        return cuts | {"above.weight": (None, own), "above.bias": (None,)}

    def build(self, sizes):
        return NormedMLP(sizes["hidden"])


def split_of(n: int, seed: int, shift: float = 0.0) -> Split:
    """Images of 4 x 4 pixels whose brightness tells the class."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (n,), generator=generator)
    noise = torch.randn(n, 1, 4, 4, generator=generator)
    return Split(noise + targets[:, None, None, None] + shift, targets)


def make_task(sizes=(40, 26, 70)) -> Task:
    parts = [
        tuple(split_of(n // share, 10 * client + share, client) for client, n in enumerate(sizes))
        for share in (1, 4, 3)
    ]
    counts = np.ones((len(sizes), 3), dtype=np.int64)
    return Task("toy", tuple("abc"[: len(sizes)]), *parts, counts=counts, n_outputs=3)


@pytest.fixture
def task() -> Task:
    return make_task()


@pytest.fixture
def model() -> NormedCNN:
    """A supernet whose statistics and affine weights are not the initial ones."""
    supernet = fresh(NormedCNN(), seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for norm in supernet.norms:
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            norm.num_batches_tracked.fill_(17)
    return supernet


def statistics_of(model) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    return {name: state[name].clone() for name in state if name.endswith(STATISTICS)}


def estimated_by_hand(model: NormedCNN, splits, batch_size: int) -> dict[str, torch.Tensor]:
    """Averages of the batches' means and unbiased variances, weighted by samples."""
    sums = {f"norms.{at}.{name}": 0.0 for at in (0, 1) for name in ("running_mean", "running_var")}
    total = 0
    with torch.no_grad():
        for images in (part for split in splits for part in split.inputs.split(batch_size)):
            states = images
            for at, (convolution, norm) in enumerate(
                zip(model.convolutions, model.norms, strict=True)
            ):
                states = functional.conv2d(states, convolution.weight, convolution.bias, padding=1)
                rows = states.movedim(1, -1).flatten(0, -2)
                mean, variance = rows.mean(0), rows.var(0, correction=1)
                sums[f"norms.{at}.running_mean"] += len(images) * mean
                sums[f"norms.{at}.running_var"] += len(images) * variance
                spread = torch.sqrt(rows.var(0, correction=0) + norm.eps)
                normal = (states - mean[:, None, None]) / spread[:, None, None]
                states = torch.relu(normal * norm.weight[:, None, None] + norm.bias[:, None, None])
            total += len(images)
    return {name: value / total for name, value in sums.items()}


def assert_statistics(model, expected) -> None:
    for name, value in expected.items():
        if name.endswith("num_batches_tracked"):
            continue
        torch.testing.assert_close(
            model.state_dict()[name], value.float(), atol=1e-5, rtol=1e-4, msg=name
        )


# ------------------------------------------------------------------------------------ aggregation


@pytest.mark.parametrize("mode", ["full", "selective"])
def test_aggregation_keeps_the_servers_statistics(model, mode):
    updates = []
    for width, samples in ((0.5, 30), (1.0, 10), (1.0, 5)):
        state = extract(model, width).state_dict()
        updates.append(Update(width, samples, {name: t + 1 for name, t in state.items()}))
    result, server = aggregate(model, updates, mode), model.state_dict()
    for name in server:
        if name.endswith(STATISTICS):
            assert torch.equal(result[name], server[name]), name
        else:
            assert not torch.equal(result[name], server[name]), name


# --------------------------------------------------------------------------------------- estimates


@pytest.mark.parametrize("width", [0.5, 1.0])
def test_estimates_are_averages_over_all_batches(model, task, width):
    subnet = extract(model, width)
    before, random_state = copy.deepcopy(subnet.state_dict()), torch.get_rng_state()
    estimate_statistics(subnet, task.train, batch_size=16)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert_statistics(subnet, estimated_by_hand(subnet, task.train, 16))
    for name, tensor in subnet.state_dict().items():
        assert name.endswith(STATISTICS) or torch.equal(tensor, before[name])
    assert subnet.training
    assert [(norm.momentum, norm.track_running_stats) for norm in subnet.norms] == [(0.3, True)] * 2


@pytest.mark.parametrize("momentum", [None, 0.01, 1.0])
def test_estimates_do_not_depend_on_the_layers_momentum(model, task, momentum):
    for norm in model.norms:
        norm.momentum = momentum
    estimate_statistics(model, task.train, batch_size=16)
    assert_statistics(model, estimated_by_hand(model, task.train, 16))


def test_estimates_in_double_precision(model, task):
    model.double()
    splits = [Split(split.inputs.double(), split.targets) for split in task.train]
    estimate_statistics(model, splits, batch_size=16)
    expected = estimated_by_hand(model, splits, 16)
    for name, value in expected.items():
        torch.testing.assert_close(model.state_dict()[name], value, atol=1e-8, rtol=1e-8)


def test_a_layer_that_tracks_nothing_keeps_what_it_holds(model, task):
    before = statistics_of(model)
    model.norms[0].track_running_stats = False
    estimate_statistics(model, task.train)
    after = statistics_of(model)
    for name in before:
        assert torch.equal(after[name], before[name]) == ("norms.0" in name or "num" in name), name


def test_statistics_of_a_width_are_wrong_at_another(model, task):
    """Why they are never averaged: those of the whole supernet do not fit its subnet."""
    subnet = extract(model, 0.5)
    estimate_statistics(model, task.train)
    estimate_statistics(subnet, task.train)
    whole, own = model.norms[1].running_mean[:4], subnet.norms[1].running_mean
    assert ((whole - own).abs() > 0.1 * own.abs()).any()
    torch.testing.assert_close(model.norms[0].running_mean[:3], subnet.norms[0].running_mean)


def test_estimation_needs_no_batch_norm(task):
    mlp = fresh(MLP(16, 3), seed=0)
    before = copy.deepcopy(mlp.state_dict())
    estimate_statistics(mlp, task.train)
    assert all(torch.equal(tensor, before[name]) for name, tensor in mlp.state_dict().items())


# ---------------------------------------------------------------------------------- local training


def test_a_client_reports_estimates_from_its_own_samples(model, task):
    settings = LocalTraining(epochs=2, batch_size=16, batch_norm="per_width")
    random_state = torch.get_rng_state()
    local_train(model, task.train[0], settings, (0, 0, 0))
    assert torch.equal(torch.get_rng_state(), random_state)
    assert_statistics(model, estimated_by_hand(model, task.train[:1], 16))


def test_weights_do_not_depend_on_the_statistics(model, task):
    one, other = copy.deepcopy(model), copy.deepcopy(model)
    local_train(one, task.train[0], LocalTraining(), (0, 0, 0))
    local_train(other, task.train[0], LocalTraining(batch_norm="per_width"), (0, 0, 0))
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


# ---------------------------------------------------------------------------------------- the loop


def loaded(history) -> NormedCNN:
    final = NormedCNN()
    final.load_state_dict(dict(history.weights))
    return final


def test_drawn_widths_are_tested_with_the_statistics_of_the_width_held(model, task):
    history = run(
        model,
        task,
        Subnets([0.5] * 3, "ordered_dropout"),
        rounds=1,
        training=LocalTraining(batch_norm="per_width"),
    )
    server, own = copy.deepcopy(model), []
    server.load_state_dict(dict(history.weights))
    subnet = extract(server, 0.5)
    for client, split in enumerate(task.train):
        trained = extract(model, 0.5)
        widths = ((w, prefix(model, w)) for w in uniform_fifths(0.5, key_of(0, 0, "abc"[client])))
        settings = LocalTraining(batch_norm="per_width")
        local_train(trained, split, settings, key_of(0, 0, "abc"[client]), 0.5, widths)
        own.append(statistics_of(trained))
    for name, buffer in subnet.named_buffers():
        if buffer.is_floating_point():
            weighted = sum(len(split) * s[name] for split, s in zip(task.train, own, strict=True))
            buffer.copy_(weighted / task.samples.sum())
    expected = [evaluate(subnet, split).loss for split in task.test]
    np.testing.assert_allclose(history.test_loss[0], expected, rtol=1e-5)


@pytest.mark.parametrize("scheme", ["prefix", "rolling", "ordered_dropout"])
def test_static_tests_each_model_with_its_own_estimates(model, task, scheme):
    widths = [0.5, 1.0, 0.5]
    history = run(
        model, task, Subnets(widths, scheme), rounds=2, training=LocalTraining(batch_size=16)
    )
    final = loaded(history)
    assert_statistics(final, estimated_by_hand(final, task.train, 16))
    for client, width in enumerate(widths):
        kept = prefix(final, width)
        if scheme == "rolling":  # round 1: the window starts at unit 1
            counts = final.subnet_sizes(width)
            kept = {g: (torch.arange(n) + 1) % final.sizes[g] for g, n in counts.items()}
        subnet = extract(final, width, {g: torch.arange(final.sizes[g])[k].sort().values
                                        for g, k in kept.items()})  # fmt: skip
        by_hand = estimated_by_hand(subnet, task.train, 16)
        subnet.load_state_dict({**subnet.state_dict(), **by_hand})
        expected = evaluate(subnet, task.test[client]).loss
        assert history.test_loss[-1, client] == pytest.approx(expected, rel=1e-4)


def test_the_supernet_is_tested_with_its_own_estimates(model, task):
    for batch_norm in ("static", "per_width"):
        history = run(
            model,
            task,
            [0.5] * 3,
            rounds=1,
            evaluation=Evaluation(on="supernet"),
            training=LocalTraining(batch_norm=batch_norm),
        )
        expected = [evaluate(loaded(history), split).loss for split in task.test]
        np.testing.assert_array_equal(history.test_loss[0], expected)
        assert_statistics(loaded(history), estimated_by_hand(loaded(history), task.train, 32))


def test_per_width_averages_over_clients_of_one_width_alone(model, task):
    widths = [0.5, 1.0, 0.5]
    history = run(
        model,
        task,
        widths,
        rounds=1,
        seed=3,
        training=LocalTraining(batch_size=16, batch_norm="per_width"),
    )
    settings = LocalTraining(batch_size=16, batch_norm="per_width")
    own, states = [], []
    for client, (width, split) in enumerate(zip(widths, task.train, strict=True)):
        subnet = extract(model, width)
        local_train(subnet, split, settings, key_of(3, 0, "abc"[client]), width)
        own.append(statistics_of(subnet))
        states.append(Update(width, len(split), subnet.state_dict()))
    server = copy.deepcopy(model)
    server.load_state_dict(aggregate(model, states))
    for client, (width, group) in enumerate(zip(widths, ([0, 2], [1], [0, 2]), strict=True)):
        subnet, total = extract(server, width), sum(len(task.train[c]) for c in group)
        for name, buffer in subnet.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(sum(len(task.train[c]) * own[c][name] for c in group) / total)
        expected = evaluate(subnet, task.test[client]).loss
        assert history.test_loss[0, client] == pytest.approx(expected, rel=1e-5)
    assert_statistics(loaded(history), own[1])  # of the one client with the whole supernet


def test_clients_of_other_widths_do_not_move_the_statistics(model, task):
    def learned(disturbance: float) -> dict[str, torch.Tensor]:
        collector = PerWidth(model, task.train, 16)
        collector.begin()
        for width, samples in ((0.5, 10), (1.0, 40), (0.5, 30)):
            state = extract(model, width).state_dict()
            offset = samples if width == 0.5 else disturbance
            collector.learn(Update(width, samples, {n: t + offset for n, t in state.items()}))
        subnet = extract(model, 0.5)
        collector.fill(subnet, prefix(model, 0.5))
        return statistics_of(subnet)

    quiet, loud = learned(0.0), learned(1e6)
    assert all(torch.equal(quiet[name], loud[name]) for name in quiet)
    before = extract(model, 0.5).norms[0].running_mean
    torch.testing.assert_close(quiet["norms.0.running_mean"], before + (10 * 10 + 30 * 30) / 40)


def test_a_width_that_nobody_trained_is_estimated(model, task):
    for collector in (Static(model, task.train, 16), PerWidth(model, task.train, 16)):
        collector.begin()
        subnet = extract(model, 0.5)
        collector.fill(subnet, prefix(model, 0.5))
        assert_statistics(subnet, estimated_by_hand(subnet, task.train, 16))


def test_static_estimates_alike_models_once_per_round(model, task, monkeypatch):
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return estimate_statistics(*arguments, **options)

    monkeypatch.setattr("hasa_opt.federated.batch_norm.estimate_statistics", counted)
    run(model, task, [0.5, 0.5, 0.5], rounds=3, training=LocalTraining(batch_size=16))
    assert len(calls) == 3 + 1  # and the whole supernet at the end


@pytest.mark.parametrize("batch_norm", ["static", "per_width"])
def test_models_with_batch_norm_learn_at_every_width(task, batch_norm):
    supernet = fresh(NormedCNN(), seed=0)
    history = run(
        supernet,
        task,
        [0.5, 1.0, 0.5],
        rounds=6,
        training=LocalTraining(batch_size=16, batch_norm=batch_norm),
    )
    assert (history.train_loss[-1] < 0.8 * history.train_loss[0]).all()
    again = run(
        supernet,
        task,
        [0.5, 1.0, 0.5],
        rounds=6,
        training=LocalTraining(batch_size=16, batch_norm=batch_norm),
    )
    np.testing.assert_array_equal(history.test_loss, again.test_loss)
    assert history.metadata["training.batch_norm"] == batch_norm


def test_without_batch_norm_nothing_changes(task):
    mlp = fresh(MLP(16, 3), seed=0)
    one, other = (
        run(mlp, task, [0.5] * 3, rounds=1, training=LocalTraining(batch_norm=batch_norm))
        for batch_norm in ("static", "per_width")
    )
    np.testing.assert_array_equal(one.test_loss, other.test_loss)


# ------------------------------------------------------------------------------------------ errors


def test_a_batch_of_one_sample_is_refused_before_training(monkeypatch):
    def no_training(*_):
        raise AssertionError("training has started")

    monkeypatch.setattr("hasa_opt.federated.local.local_train", no_training)
    task = make_task((40, 33, 70))
    remedy = r'leave such batches out with LocalTraining\(drop_last="single"\), or GroupNorm'
    with pytest.raises(InputError, match=rf"'b' has 33 .* batches of 32: .*{remedy}"):
        run(NormedMLP(), task, [0.5] * 3, rounds=1)
    with pytest.raises(InputError, match=r"'a' has 40 .* batches of 1: .*use larger batches, or G"):
        run(NormedMLP(), task, [0.5] * 3, rounds=1, training=LocalTraining(batch_size=1))


def test_a_batch_of_one_image_has_a_variance(model):
    run(model, make_task((40, 33, 70)), [0.5] * 3, rounds=1)


def test_other_batch_sizes_serve():
    run(
        NormedMLP(),
        make_task((40, 33, 70)),
        [0.5] * 3,
        rounds=1,
        training=LocalTraining(batch_size=16 + 4),
    )


def task_of_sizes(sizes) -> Task:
    held = tuple(split_of(6, 100 + client) for client in range(len(sizes)))
    train = tuple(split_of(n, client, client) for client, n in enumerate(sizes))
    counts = np.ones((len(sizes), 3), dtype=np.int64)
    names = tuple("abcdefgh"[: len(sizes)])
    return Task("toy", names, train, held, held, counts=counts, n_outputs=3)


def test_a_client_of_one_sample_has_a_remedy_that_helps():
    """No size of batches does: its only batch is one sample."""
    task, training = task_of_sizes((1, 20, 9)), LocalTraining(batch_size=4, drop_last="single")
    history = run(NormedMLP(), task, [0.5] * 3, rounds=1, training=training)
    assert [(event.client, event.kind) for event in history.events] == [(0, "dropped")]
    assert np.isnan(history.train_loss[0, 0])
    assert history.bytes_down[0, 0] == 0
    assert np.isfinite(history.test_loss).all()
    rows = models.training_flops(NormedMLP(), 0.5, task.train[1].inputs[:1])
    assert history.flops[0].tolist() == [0, 20 * rows, 8 * rows]


@pytest.mark.fuzz
@settings(max_examples=10 * TIMES, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 13), min_size=2, max_size=4),
    batch_size=st.integers(1, 6),
    kind=st.sampled_from(["static", "per_width"]),
    engine=st.sampled_from(sorted(ENGINES)),
)
@pytest.mark.filterwarnings("ignore")
def test_what_the_refusal_says_helps(sizes, batch_size, kind, engine):
    """The run is refused exactly where a batch of one is left, and its remedy is enough."""
    task, model = task_of_sizes(sizes), fresh(NormedMLP(), seed=1)

    def train(**options):
        training = LocalTraining(batch_norm=kind, **options)
        widths, how = [0.5] * len(sizes), Execution(engine=engine)
        return run(model, task, widths, rounds=1, training=training, execution=how)

    ends_in_one = [n % batch_size == 1 or batch_size == 1 for n in sizes]
    if not any(ends_in_one):
        assert not train(batch_size=batch_size).events
        return
    with pytest.raises(InputError, match="a batch of one sample is left") as caught:
        train(batch_size=batch_size)
    if batch_size == 1:
        assert "use larger batches" in str(caught.value)
    elif max(sizes) > 1:
        history = train(batch_size=batch_size, drop_last="single")
        dropped = [event.client for event in history.events]
        assert dropped == [client for client, n in enumerate(sizes) if n == 1]
        assert np.isfinite(history.test_loss).all()


def test_batches_that_are_left_out_must_leave_some():
    with pytest.raises(InputError, match=r"drop_last = True leaves no client a batch of 32.* 20 "):
        run(
            NormedMLP(),
            task_of_sizes((20, 9)),
            [0.5] * 2,
            rounds=1,
            training=LocalTraining(drop_last=True),
        )


@pytest.mark.parametrize("value", ["one", None, 1, 0, 2])
def test_drop_last_is_checked(value):
    with pytest.raises(InputError, match=r'drop_last = .* must be False, True or "single"'):
        LocalTraining(drop_last=value)


def test_bad_options(model, task):
    with pytest.raises(InputError, match=r"'running'.*per_width"):
        run(model, task, [0.5] * 3, rounds=1, training=LocalTraining(batch_norm="running"))
