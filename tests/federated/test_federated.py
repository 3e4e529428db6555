"""The federated loop: local training, aggregation, evaluation, history."""

import copy
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import key_of
from torch import nn

import hasa_opt as hasa
from hasa_opt.errors import InputError
from hasa_opt.federated import (
    Evaluation,
    History,
    LocalTraining,
    Server,
    Update,
    aggregate,
    evaluate,
    local_train,
    run,
)
from hasa_opt.federated.batches import batches
from hasa_opt.federated.measurements import Measured
from hasa_opt.models import (
    CNN,
    MLP,
    Cut,
    LSTMLanguageModel,
    SupernetModel,
    extract,
    fresh,
    parameter_bytes,
    training_flops,
)
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)
CPU = torch.device("cpu")


def feature_split(n: int, seed: int) -> Split:
    """Three separable classes in six dimensions."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (n,), generator=generator)
    centres = 2 * torch.eye(3).repeat(1, 2)
    return Split(centres[targets] + torch.randn(n, 6, generator=generator), targets)


def text_split(n: int, seed: int, vocabulary: int = 11) -> Split:
    """Counting sequences of different lengths: each token follows from the one before."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.randint(2, vocabulary, (n, 1), generator=generator)
    tokens = (start - 2 + torch.arange(8)) % (vocabulary - 2) + 2
    lengths = torch.randint(2, 7, (n, 1), generator=generator)
    padding = torch.arange(7) >= lengths
    return Split(tokens[:, :-1].masked_fill(padding, 0), tokens[:, 1:].masked_fill(padding, -100))


def make_task(make_split=feature_split, sizes=(40, 25, 70), n_outputs=3, names="abcdef") -> Task:
    parts = [
        tuple(make_split(n // share, 10 * client + share) for client, n in enumerate(sizes))
        for share in (1, 4, 3)
    ]
    counts = np.ones((len(sizes), n_outputs), dtype=np.int64)
    return Task("toy", tuple(names[: len(sizes)]), *parts, counts=counts, n_outputs=n_outputs)


@pytest.fixture
def task() -> Task:
    return make_task()


@pytest.fixture
def model() -> MLP:
    return fresh(MLP(6, 3, hidden=(8, 6)), seed=1)


@pytest.fixture
def language_model() -> LSTMLanguageModel:
    return fresh(LSTMLanguageModel(11, embedding=8, hidden=12, dropout=0.2), seed=1)


def assert_same_state(left, right) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def random_updates(model, widths, samples) -> list[Update]:
    generator = torch.Generator().manual_seed(4)
    updates = []
    for width, n in zip(widths, samples, strict=True):
        state = extract(model, width).state_dict()
        noisy = {k: v + torch.randn(v.shape, generator=generator) for k, v in state.items()}
        updates.append(Update(width, n, noisy))
    return updates


def reference_average(model, updates, mode) -> dict[str, np.ndarray]:
    """Average coordinate by coordinate in plain Python."""
    result = {}
    for name, server in model.state_dict().items():
        cuts = model.cuts()[name]
        out = np.empty(server.shape)
        for position in np.ndindex(*server.shape):
            numerator, denominator, held = 0.0, 0, False
            for width, samples, state, _ in updates:
                local = []
                for at, cut in zip(position, cuts, strict=True):
                    if cut is None:
                        local.append(at)
                        continue
                    size = model.sizes[cut.group]
                    keep = max(1, int(width * size + 1e-6))
                    block, rest = divmod(at, size * cut.span)
                    unit, entry = divmod(rest, cut.span)
                    local.append((block * keep + unit) * cut.span + entry if unit < keep else None)
                if None not in local:
                    numerator += samples * float(state[name][tuple(local)])
                    denominator += samples
                    held = True
                elif mode == "full":
                    numerator += samples * float(server[position])
                    denominator += samples
            out[position] = numerator / denominator if held else float(server[position])
        result[name] = out
    return result


@pytest.mark.parametrize("mode", ["full", "selective"])
@pytest.mark.parametrize("kind", ["mlp", "lstm", "cnn"])
def test_aggregate_equals_the_slow_average(kind, mode):
    supernet = {
        "mlp": MLP(4, 3, hidden=(6, 5)),
        "lstm": LSTMLanguageModel(5, embedding=4, hidden=5),
        "cnn": CNN(3, channels=(4, 6), image_size=4),
    }[kind]
    supernet = fresh(supernet, seed=2)
    before = copy.deepcopy(supernet.state_dict())
    updates = random_updates(supernet, (0.25, 0.8, 0.5, 0.5), (3, 11, 7, 1))
    actual = aggregate(supernet, updates, mode)
    assert_same_state(supernet.state_dict(), before)
    for name, expected in reference_average(supernet, updates, mode).items():
        assert actual[name].dtype == torch.float32
        np.testing.assert_allclose(actual[name].numpy(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("mode", ["full", "selective"])
def test_untrained_coordinates_keep_the_servers_bits(model, mode):
    result = aggregate(model, random_updates(model, (0.5, 0.25), (3, 7)), mode)
    server = model.state_dict()
    assert torch.equal(result["layers.1.weight"][3:], server["layers.1.weight"][3:])
    assert torch.equal(result["layers.1.weight"][:, 4:], server["layers.1.weight"][:, 4:])
    assert not (result["layers.1.weight"][:3, :4] == server["layers.1.weight"][:3, :4]).any()


def test_the_two_modes_differ_only_where_a_client_is_missing(model):
    updates = random_updates(model, (0.5, 1.0), (3, 7))
    full, selective = (aggregate(model, updates, mode) for mode in ("full", "selective"))
    torch.testing.assert_close(full["layers.0.weight"][:4], selective["layers.0.weight"][:4])
    assert torch.equal(selective["layers.0.weight"][4:], updates[1].state["layers.0.weight"][4:])
    assert not torch.isclose(full["layers.0.weight"][4:], selective["layers.0.weight"][4:]).any()


@pytest.mark.parametrize("mode", ["full", "selective"])
def test_clients_without_samples_do_not_count(model, mode):
    updates = random_updates(model, (0.5, 1.0), (3, 0))
    assert_same_state(aggregate(model, updates, mode), aggregate(model, updates[:1], mode))


def test_aggregate_refuses_bad_updates(model):
    updates = random_updates(model, (0.5, 1.0), (3, 7))
    with pytest.raises(InputError, match="'median'"):
        aggregate(model, updates, "median")
    with pytest.raises(InputError, match="nothing to average"):
        aggregate(model, [])
    with pytest.raises(InputError, match="nothing to average"):
        aggregate(model, random_updates(model, (0.5,), (0,)))
    with pytest.raises(InputError, match="samples = -1"):
        aggregate(model, random_updates(model, (0.5,), (-1,)))
    broadcastable = {**updates[1].state, "layers.0.bias": torch.zeros(1)}
    with pytest.raises(InputError, match=r"layers\.0\.bias.*\(1,\).*\(8,\)"):
        aggregate(model, [Update(1.0, 3, broadcastable)])
    with pytest.raises(InputError, match="layers"):
        aggregate(model, [Update(0.25, 3, updates[0].state)])


def test_local_training_learns(language_model, model):
    for supernet, split in ((language_model, text_split(60, 0)), (model, feature_split(60, 0))):
        before = evaluate(supernet, split)
        results = [
            local_train(supernet, split, LocalTraining(epochs=4), (0, number, 0))
            for number in range(4)
        ]
        after = evaluate(supernet, split)
        assert results[-1].loss < 0.7 * results[0].loss
        assert after.loss < 0.7 * before.loss
        assert after.accuracy > max(0.6, before.accuracy)
        assert results[0].n_steps == 8
        assert results[0].seconds > 0


@pytest.mark.parametrize("kind", ["features", "text"])
def test_sgd_takes_the_step_by_hand(kind):
    if kind == "features":
        model, split = fresh(MLP(6, 3, hidden=(8, 6)), seed=1), feature_split(9, 0)
    else:
        model, split = fresh(LSTMLanguageModel(11, 8, 12), seed=1), text_split(9, 0)
    expected = copy.deepcopy(model)
    known = split.targets >= 0
    logits, targets = expected(split.inputs)[known], split.targets[known]
    loss = torch.nn.functional.cross_entropy(logits, targets)
    loss.backward()
    settings = LocalTraining(optimizer="sgd", learning_rate=0.1, batch_size=9)
    result = local_train(model, split, settings, (0, 0, 0))
    assert result.loss == pytest.approx(loss.item(), rel=1e-6)
    for actual, parameter in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(actual, parameter - 0.1 * parameter.grad)


def test_local_training_depends_on_its_key_alone(language_model):
    split, settings = text_split(40, 0), LocalTraining(batch_size=8)
    outcomes = {}
    for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 0)):
        torch.rand(3)
        before = torch.get_rng_state()
        subnet = extract(language_model, 0.5)
        loss = local_train(subnet, split, settings, key).loss
        assert torch.equal(torch.get_rng_state(), before)
        if key in outcomes:
            assert outcomes[key][0] == loss
            assert_same_state(outcomes[key][1], subnet.state_dict())
        outcomes[key] = (loss, subnet.state_dict())
    assert len({loss for loss, _ in outcomes.values()}) == 4


def test_sample_order_is_the_same_at_every_width_and_dropout(language_model, monkeypatch):
    split = text_split(40, 0)
    orders = []
    monkeypatch.setattr(
        "hasa_opt.federated.batches.batches",
        lambda *arguments: orders.append(arguments[2]) or batches(*arguments),
    )
    without_dropout = fresh(LSTMLanguageModel(11, 8, 12), seed=1)
    for supernet, width in ((language_model, 0.5), (language_model, 1.0), (without_dropout, 0.5)):
        settings = LocalTraining(epochs=2)
        local_train(extract(supernet, width), split, settings, (0, 0, 0))
    assert len(orders) == 6
    assert torch.equal(torch.cat(orders[:2]), torch.cat(orders[2:4]))
    assert torch.equal(torch.cat(orders[:2]), torch.cat(orders[4:]))
    assert not torch.equal(orders[0], orders[1])
    assert torch.equal(orders[0].sort().values, torch.arange(40))


def test_targets_outside_the_vocabulary_do_not_train(language_model):
    split = text_split(12, 0)
    nothing = Split(split.inputs, split.targets.clamp(max=-1))
    before = copy.deepcopy(language_model.state_dict())
    result = local_train(language_model, nothing, LocalTraining(), (0, 0, 0))
    assert np.isnan(result.loss)
    assert_same_state(language_model.state_dict(), before)


def test_trimming_padding_changes_no_prediction(language_model):
    split = text_split(30, 0)
    ending = torch.full_like(split.targets[:, 2:], -100)
    short = Split(split.inputs, torch.cat([split.targets[:, :2], ending], dim=1))
    ((inputs, targets),) = batches(short, 30, torch.arange(30), CPU)
    assert inputs.shape == targets.shape == (30, 2)
    language_model.eval()
    torch.testing.assert_close(language_model(inputs), language_model(short.inputs)[:, :2])
    assert sum(len(t) for _, t in batches(split, 7, torch.arange(30), CPU)) == 30


def test_accuracy_counts_unknown_words_as_errors(language_model):
    inputs = torch.tensor([[2, 3, 4, 5], [3, 4, 0, 0]])
    with torch.no_grad():
        logits = language_model.eval()(inputs)
    right = logits.argmax(dim=-1)
    targets = right.clone()
    targets[0, 1] = -1
    targets[0, 3] = (right[0, 3] + 1) % 11
    targets[1, 2:] = -100
    result = evaluate(language_model.train(), Split(inputs, targets), batch_size=1)
    assert result.accuracy == pytest.approx(4 / 6)
    known = targets >= 0
    losses = -logits.log_softmax(dim=-1)[known].gather(1, targets[known][:, None])
    assert result.loss == pytest.approx(float(losses.mean()), rel=1e-6)
    assert language_model.training


def test_evaluation_without_targets_is_nan(language_model):
    result = evaluate(language_model, Split(torch.ones(2, 3).long(), torch.full((2, 3), -100)))
    assert np.isnan(result.loss)
    assert np.isnan(result.accuracy)


def test_run_measures_every_round(task, model):
    seen = []
    widths = np.array([0.5, 0.25, 1.0])
    history = run(
        model,
        task,
        widths,
        rounds=3,
        on_round=lambda number, row: seen.append((number, row)),
        training=LocalTraining(epochs=2),
    )
    assert [number for number, _ in seen] == [0, 1, 2]
    np.testing.assert_array_equal(seen[1][1]["test_accuracy"], history.test_accuracy[1])
    assert history.rounds == 3
    assert history.train_loss.shape == (3, 3)
    assert (history.train_loss[-1] < history.train_loss[0]).all()
    assert (history.seconds > 0).all()
    np.testing.assert_array_equal(history.widths, widths)
    np.testing.assert_array_equal(history.final_accuracy, history.test_accuracy[-1])
    expected = [parameter_bytes(model, width) for width in widths]
    np.testing.assert_array_equal(history.bytes_up, [expected] * 3)
    np.testing.assert_array_equal(history.bytes_down, history.bytes_up)
    sample = task.train[0].inputs[:1]
    flops = [training_flops(model, width, sample) for width in widths]
    np.testing.assert_array_equal(history.flops, [2 * task.samples * flops] * 3)
    assert history.metadata["samples"] == [40, 25, 70]


def test_run_is_the_loop_written_out(task, model):
    widths = (0.5, 0.25, 1.0)
    history = run(model, task, widths, rounds=2, seed=5, server=Server(aggregation="selective"))
    server = copy.deepcopy(model)
    for number in range(2):
        updates = []
        for client in (2, 0, 1):
            subnet = extract(server, widths[client])
            split = task.train[client]
            result = local_train(subnet, split, LocalTraining(), key_of(5, number, "abc"[client]))
            assert history.train_loss[number, client] == result.loss
            updates.append((client, Update(widths[client], len(split), subnet.state_dict())))
        ordered = [update for _, update in sorted(updates, key=lambda pair: pair[0])]
        server.load_state_dict(aggregate(server, ordered, "selective"))
    assert_same_state(dict(history.weights), dict(server.state_dict()))
    expected = [evaluate(extract(server, w), s) for w, s in zip(widths, task.test, strict=True)]
    np.testing.assert_array_equal(history.final_accuracy, [e.accuracy for e in expected])
    np.testing.assert_array_equal(history.test_loss[-1], [e.loss for e in expected])


def test_client_order_only_changes_the_rounding(model):
    updates = random_updates(model, (0.5, 0.25, 1.0), (3, 7, 5))
    for mode in ("full", "selective"):
        one, other = aggregate(model, updates, mode), aggregate(model, updates[::-1], mode)
        for name in one:
            torch.testing.assert_close(one[name], other[name], rtol=3e-7, atol=1e-8)


def test_run_is_deterministic_and_leaves_everything_alone(language_model):
    task = make_task(text_split, n_outputs=11)
    before = copy.deepcopy(language_model.state_dict())
    state = torch.get_rng_state()
    one = run(language_model, task, [0.5, 0.25, 1.0], rounds=2, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_state(language_model.state_dict(), before)
    assert language_model.training
    torch.rand(7)
    again = run(language_model, task, [0.5, 0.25, 1.0], rounds=2, seed=3)
    other = run(language_model, task, [0.5, 0.25, 1.0], rounds=2, seed=4)
    assert_same_state(one.weights, again.weights)
    np.testing.assert_array_equal(one.train_loss, again.train_loss)
    np.testing.assert_array_equal(one.test_accuracy, again.test_accuracy)
    assert not torch.equal(one.weights["decoder.weight"], other.weights["decoder.weight"])


def test_units_that_nobody_trains_keep_their_initial_weights(task, model):
    for aggregation in ("full", "selective"):
        history = run(
            model, task, [0.5, 0.25, 0.5], rounds=2, server=Server(aggregation=aggregation)
        )
        initial, final = model.state_dict()["layers.0.weight"], history.weights["layers.0.weight"]
        assert torch.equal(final[4:], initial[4:])
        assert not (final[:4] == initial[:4]).any()


def test_supernet_evaluation_uses_the_full_model(task, model):
    subnet = run(model, task, [0.25, 0.25, 1.0], rounds=1)
    supernet = run(model, task, [0.25, 0.25, 1.0], rounds=1, evaluation=Evaluation(on="supernet"))
    assert_same_state(subnet.weights, supernet.weights)
    full = copy.deepcopy(model)
    full.load_state_dict(supernet.weights)
    expected = [evaluate(full, split).loss for split in task.test]
    np.testing.assert_allclose(supernet.test_loss[0], expected, rtol=1e-6)
    assert subnet.test_loss[0, 2] == pytest.approx(supernet.test_loss[0, 2], rel=1e-6)
    assert (subnet.test_loss[0, :2] != supernet.test_loss[0, :2]).all()


def test_run_accepts_an_allocation_object(task, model):
    allocation = SimpleNamespace(widths=np.array([0.5, 0.25, 1.0]))
    history = run(model, task, allocation, rounds=1)
    assert_same_state(history.weights, run(model, task, allocation.widths, rounds=1).weights)


def test_run_trains_images():
    def images(n: int, seed: int) -> Split:
        flat = feature_split(n, seed)
        return Split(flat.inputs[:, :4].reshape(n, 1, 2, 2).repeat(1, 1, 2, 2), flat.targets)

    task = make_task(images)
    supernet = fresh(CNN(3, channels=(4, 8), image_size=4), seed=0)
    history = run(supernet, task, [0.5, 0.5, 1.0], rounds=3)
    assert (history.train_loss[-1] < history.train_loss[0]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"allocation": [0.5, 0.5]}, "3 clients"),
        ({"allocation": 0.5}, r"shape \(\)"),
        ({"allocation": [0.5, 0.0, 0.5]}, "'b' has width 0"),
        ({"allocation": [0.5, 0.5, 1.5]}, "'c' has width 1.5"),
        ({"allocation": [float("nan"), 0.5, 0.5]}, "'a' has width nan"),
        ({"allocation": [0.5, float("inf"), 0.5]}, "'b' has width inf"),
        ({"rounds": 0}, "rounds = 0"),
        ({"rounds": 2.5}, "rounds = 2.5"),
        ({"seed": -1}, "seed = -1"),
        ({"seed": 0.5}, "seed = 0.5"),
        ({"allocation": ["wide", 0.5, 0.5]}, "holds no numbers"),
        ({"model": MLP(6, 4)}, "4 outputs.*has 3"),
        ({"model": MLP(7, 3)}, "cannot process an input"),
        ({"model": MLP(6, 3).double()}, r"float64, but .*float32: convert the model"),
    ],
)
def test_run_refuses_bad_input_before_training(task, model, monkeypatch, change, message):
    def no_training(*_):
        raise AssertionError("training has started")

    monkeypatch.setattr("hasa_opt.federated.local.local_train", no_training)
    arguments = {"model": model, "task": task, "allocation": [0.5, 0.5, 0.5], "rounds": 1}
    with pytest.raises(InputError, match=message):
        run(**(arguments | change))


def test_local_train_refuses_a_negative_key(model):
    with pytest.raises(InputError, match=r"\(0, -1, 2\)"):
        local_train(model, feature_split(5, 0), LocalTraining(), (0, -1, 2))


@pytest.fixture
def history(task, model) -> History:
    return run(model, task, [0.5, 0.25, 1.0], rounds=np.int64(2), seed=np.int64(8))


def test_history_round_trip(history, tmp_path):
    directory = tmp_path / "new" / "run"
    history.save(directory)
    loaded = History.load(directory)
    for name in ("widths", "train_loss", "validation_loss", "validation_accuracy", "test_loss"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(history, name))
    for name in ("test_accuracy", "seconds", "bytes_down", "bytes_up", "flops"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(history, name))
        assert getattr(loaded, name).dtype == getattr(history, name).dtype
    assert loaded.metadata == history.metadata
    assert loaded.metadata["seed"] == 8
    assert_same_state(loaded.weights, history.weights)
    assert [path.name for path in directory.parent.iterdir()] == ["run"]


def test_saving_replaces_a_history_and_nothing_else(history, task, model, tmp_path):
    history.save(tmp_path / "run")
    later = run(model, task, [0.5, 0.25, 1.0], rounds=1, seed=9)
    later.save(str(tmp_path / "run"))
    assert History.load(tmp_path / "run").metadata["seed"] == 9
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    (tmp_path / "empty").mkdir()
    later.save(tmp_path / "empty")
    assert History.load(tmp_path / "empty").rounds == 1
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    with pytest.raises(InputError, match="is not a history"):
        later.save(tmp_path / "photos")
    assert (tmp_path / "photos" / "cat.jpg").exists()


def test_a_failed_save_keeps_the_old_history(history, tmp_path, monkeypatch):
    history.save(tmp_path / "run")

    def disk_full(*_):
        raise OSError("disk full")

    monkeypatch.setattr("hasa_opt.federated.history.save_file", disk_full)
    with pytest.raises(OSError, match="disk full"):
        history.save(tmp_path / "run")
    assert History.load(tmp_path / "run").metadata["seed"] == 8
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize(
    "name", ["history.json", "rounds-000000.safetensors", "weights.safetensors"]
)
def test_a_missing_or_damaged_file(history, tmp_path, name):
    history.save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"{name}.* is damaged"):
        History.load(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert History.load(tmp_path).rounds == 2
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"has no {name}"):
        History.load(tmp_path)


def test_a_history_of_another_format(history, tmp_path):
    history.save(tmp_path)
    index = json.loads((tmp_path / "history.json").read_text())
    (tmp_path / "history.json").write_text(json.dumps(index | {"format": 1}))
    with pytest.raises(InputError, match="has format 1"):
        History.load(tmp_path)


def test_arrays_of_a_history_must_agree(history):
    with pytest.raises(InputError, match="flops has shape"):
        Measured(np.arange(3), {"flops": np.arange(2)})
    with pytest.raises(InputError, match="client 2 is measured, but there are 2 widths"):
        replace(history, widths=np.ones(2))


class WithTable(SupernetModel):
    """A network that looks its inputs up in a table of indices, and counts in a boolean."""

    def __init__(self, size: int = 8) -> None:
        super().__init__({"hidden": size}, 3)
        self.inner, self.outer = nn.Linear(6, size), nn.Linear(size, 3)
        self.register_buffer("perm", torch.tensor([1, 5, 2, 0, 3, 4]))
        self.register_buffer("flags", torch.tensor([True, False, True]))

    def cuts(self):
        group = Cut("hidden")
        return {
            "perm": (None,), "flags": (None,), "inner.weight": (group, None),
            "inner.bias": (group,), "outer.weight": (None, group), "outer.bias": (None,),
        }  # fmt: skip

    def build(self, sizes):
        return type(self)(sizes["hidden"])

    def forward(self, inputs):
        return self.outer(torch.relu(self.inner(inputs[:, self.perm])))


@pytest.mark.parametrize("mode", ["full", "selective"])
def test_buffers_that_are_no_floats_keep_the_servers_value(mode):
    model = fresh(WithTable(), seed=0)
    updates = [
        Update(width, samples**0.7, extract(model, width).state_dict())
        for width, samples in ((0.5, 7), (1.0, 11), (0.25, 13))
    ]
    averaged = aggregate(model, updates, mode)
    assert averaged["perm"].tolist() == [1, 5, 2, 0, 3, 4]
    assert averaged["flags"].tolist() == [True, False, True]
    task = make_task(feature_split)
    history = run(model, task, [0.5, 1.0, 0.25], rounds=2, server=Server(weight_power=0.7))
    assert history.weights["perm"].tolist() == [1, 5, 2, 0, 3, 4]
    assert history.weights["flags"].dtype == torch.bool


WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@given(
    kind=st.sampled_from(WHOLE),
    values=st.lists(st.integers(0, 100), min_size=1, max_size=6),
    weights=st.lists(st.floats(0.1, 1e6), min_size=1, max_size=5),
    mode=st.sampled_from(["full", "selective"]),
    sent=st.integers(0, 100),
)
def test_whole_numbers_are_never_averaged(kind, values, weights, mode, sent):
    model = fresh(WithTable(), seed=0)
    model.register_buffer("table", torch.tensor(values).to(kind))
    model.cuts = lambda: {**WithTable.cuts(model), "table": (None,)}
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["table"] = torch.full_like(state["table"], sent)
    averaged = aggregate(model, [Update(1.0, weight, state) for weight in weights], mode)
    assert averaged["table"].dtype == kind
    assert torch.equal(averaged["table"], model.table)


# --- Allocations -------------------------------------------------------------------------------


def allocated(names, caps):
    """An allocation in which each client gets the widest width that its device takes."""
    problem = hasa.AllocationProblem.build(
        hasa.Clients([10] * len(caps), names=names, max_width=caps),
        widths=(0.25, 0.5, 1.0),
        budget=1.0,
        utility=hasa.utility.alpha_fair(),
    )
    return hasa.solve(problem, "greedy")


@settings(max_examples=6, deadline=None)
@given(order=st.permutations(range(3)))
@example(order=[2, 0, 1])
def test_an_allocation_meets_the_clients_of_a_task_by_name(order):
    task, model = make_task(), fresh(MLP(6, 3, hidden=(8, 6)), seed=1)
    caps = {"a": 0.25, "b": 1.0, "c": 0.5}
    names = [task.client_names[at] for at in order]
    result = allocated(names, [caps[name] for name in names])
    for allocation in (result, dict(zip(names, result.widths.tolist(), strict=True))):
        history = run(model, task, allocation, rounds=1)
        assert history.widths.tolist() == [0.25, 1.0, 0.5]


def test_an_allocation_of_other_clients_is_refused(task, model):
    caps = [1.0, 0.5, 0.25]
    for names, words in (
        (["x", "y", "z"], "is for other clients"),
        (["a", "b", "z"], "has no width for 'c'"),
        (None, "not all of them have names"),
    ):
        with pytest.raises(InputError, match=words):
            run(model, task, allocated(names, caps), rounds=1)
    with pytest.raises(InputError, match="is also for 'd'"):
        run(model, task, allocated(list("abcd"), [*caps, 1.0]), rounds=1)
    with pytest.raises(InputError, match="has no width for 'b', 'c'"):
        run(model, task, {"a": 0.5}, rounds=1)
