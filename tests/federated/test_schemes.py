"""Extraction schemes, widths drawn per batch, and the scaler, beside slow references."""

from __future__ import annotations

import copy
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch
from support import key_of
from torch.nn import functional

from hasa_opt.errors import InputError
from hasa_opt.federated import (
    DRAWS,
    SCHEMES,
    Evaluation,
    LocalTraining,
    Server,
    Subnets,
    Update,
    aggregate,
    evaluate,
    local_train,
    run,
)
from hasa_opt.federated.units import uniform_fifths
from hasa_opt.models import (
    CNN,
    MLP,
    LSTMLanguageModel,
    SupernetModel,
    extract,
    fresh,
    prefix,
    scaled,
    training_flops,
)
from hasa_opt.tasks import Split, Task

torch.set_num_threads(1)

MODELS = {
    "mlp": lambda: MLP(6, 3, hidden=(10, 7)),
    "cnn": lambda: CNN(3, channels=(8, 12), image_size=8),
    "lstm": lambda: LSTMLanguageModel(11, embedding=7, hidden=10, layers=2),
}
WIDTHS = (0.1, 0.34, 0.5, 0.8, 1.0)


@pytest.fixture(params=MODELS)
def model(request) -> SupernetModel:
    return fresh(MODELS[request.param](), seed=1)


@pytest.fixture
def mlp() -> MLP:
    return fresh(MODELS["mlp"](), seed=1)


def units(kept, model) -> dict[str, list[int]]:
    return {
        group: list(range(size)[kept[group]])
        if isinstance(kept[group], slice)
        else kept[group].tolist()
        for group, size in model.sizes.items()
    }


def split_of(n: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, 3, (n,), generator=generator)
    noise = torch.randn(n, 6, generator=generator)
    return Split(2 * torch.eye(3).repeat(1, 2)[targets] + noise, targets)


def make_task(sizes=(40, 25, 70)) -> Task:
    parts = [
        tuple(split_of(n // share, 10 * client + share) for client, n in enumerate(sizes))
        for share in (1, 4, 3)
    ]
    names = tuple("abcdef"[: len(sizes)])
    return Task("toy", names, *parts, counts=np.ones((len(sizes), 3), dtype=np.int64), n_outputs=3)


# ------------------------------------------------------------------------------------ schemes


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_every_scheme_keeps_as_many_units_as_the_width_asks(model, scheme, width):
    kept = units(SCHEMES[scheme](model, width, (0, 3, 1)), model)
    for group, size in model.sizes.items():
        assert len(kept[group]) == max(1, int(width * size + 1e-6))
        assert kept[group] == sorted(set(kept[group]))
        assert set(kept[group]) <= set(range(size))
    assert kept == units(SCHEMES[scheme](model, width, (0, 3, 1)), model)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_width_one_is_the_supernet_in_every_round(model, scheme):
    subnet = extract(model, 1.0, SCHEMES[scheme](model, 1.0, (2, 5, 3)))
    for name, tensor in model.state_dict().items():
        assert torch.equal(subnet.state_dict()[name], tensor)


def test_rolling_moves_by_one_and_visits_every_unit_equally_often(model):
    for group, size in model.sizes.items():
        count = max(1, int(0.34 * size + 1e-6))
        visits = Counter()
        for number in range(size):
            kept = units(SCHEMES["rolling"](model, 0.34, (7, number, 2)), model)[group]
            window = []
            for step in range(count):
                unit = number + step
                window.append(unit - size if unit >= size else unit)
            assert set(kept) == set(window)
            visits.update(kept)
        assert visits == dict.fromkeys(range(size), count)


def test_rolling_is_the_same_for_all_clients_and_comes_back(mlp):
    first = units(SCHEMES["rolling"](mlp, 0.5, (0, 4, 0)), mlp)
    assert units(SCHEMES["rolling"](mlp, 0.5, (9, 4, 6)), mlp) == first
    assert units(SCHEMES["rolling"](mlp, 0.5, (0, 4 + 70, 0)), mlp) == first
    assert units(SCHEMES["rolling"](mlp, 0.5, (0, 5, 0)), mlp) != first


def test_random_draws_anew_for_each_key_and_all_units_alike(mlp):
    draws = {
        key: tuple(units(SCHEMES["random"](mlp, 0.5, key), mlp)["hidden0"])
        for key in [(seed, number, client) for seed in (0, 1) for number in range(150)
                    for client in range(2)]
    }  # fmt: skip
    assert draws[0, 0, 0] != draws[1, 0, 0]
    assert draws[0, 0, 0] != draws[0, 1, 0]
    assert draws[0, 0, 0] != draws[0, 0, 1]
    visits = Counter(unit for kept in draws.values() for unit in kept)
    assert len(draws) == 600
    assert visits.total() == 600 * 5
    assert all(abs(visits[unit] - 300) < 61 for unit in range(10))  # five standard deviations
    assert len(set(draws.values())) > 150  # of 252 subsets


def test_random_draws_the_groups_apart_and_leaves_the_random_state(mlp):
    twin = MLP(6, 3, hidden=(10, 10))
    before = torch.get_rng_state()
    kept = [units(SCHEMES["random"](twin, 0.5, (0, n, 0)), twin) for n in range(5)]
    assert torch.equal(torch.get_rng_state(), before)
    assert any(own["hidden0"] != own["hidden1"] for own in kept)


def test_the_width_of_a_batch_is_uniform_over_fifths():
    drawn = Counter(islice(uniform_fifths(0.7, (0, 0, 0)), 4000))
    assert set(drawn) == {0.2, 0.4, 0.6, 0.7}
    assert all(abs(count - 1000) < 140 for count in drawn.values())  # five standard deviations
    assert set(islice(uniform_fifths(1.0, (0, 0, 0)), 100)) == {0.2, 0.4, 0.6, 0.8, 1.0}
    assert set(islice(uniform_fifths(0.6, (0, 0, 0)), 100)) == {0.2, 0.4, 0.6}
    assert set(islice(uniform_fifths(0.15, (0, 0, 0)), 100)) == {0.15}


def test_drawn_widths_depend_on_the_key_alone():
    drawn = {
        key: list(islice(uniform_fifths(1.0, key), 20))
        for key in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    }
    assert drawn[0, 0, 0] == list(islice(uniform_fifths(1.0, (0, 0, 0)), 20))
    assert len({tuple(widths) for widths in drawn.values()}) == 4


# --------------------------------------------------------------------------------- local training


def masked_mlp(model: MLP, features: torch.Tensor, counts: list[int]) -> torch.Tensor:
    """The whole network with all units beyond the counts set to zero."""
    states = features
    for layer, count in zip(model.layers[:-1], counts, strict=True):
        mask = torch.arange(layer.out_features) < count
        states = torch.relu(layer(states)) * mask
    return model.layers[-1](states)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_ordered_dropout_trains_the_drawn_prefix_of_each_batch(mlp, optimizer):
    split, width, key = split_of(45, 0), 0.8, (3, 1, 2)
    settings = LocalTraining(epochs=2, batch_size=8, learning_rate=0.05, optimizer=optimizer)
    subnet = extract(mlp, width)
    reference = copy.deepcopy(subnet)
    orders: list[torch.Tensor] = []
    drawn = [(own, prefix(mlp, own)) for own in islice(uniform_fifths(width, key), 12)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "randperm", spy(torch.randperm, orders))
        result = local_train(subnet, split, settings, key, width, iter(drawn))

    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[optimizer]
    own = kind(reference.parameters(), lr=0.05)
    batches = [batch for order in orders for batch in order.split(8)]
    for batch, (step_width, _) in zip(batches, drawn, strict=True):
        counts = [max(1, int(step_width * size + 1e-6)) for size in (10, 7)]
        own.zero_grad()
        logits = masked_mlp(reference, split.inputs[batch], counts)
        functional.cross_entropy(logits, split.targets[batch]).backward()
        own.step()
    for actual, expected in zip(subnet.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(actual, expected, atol=1e-6, rtol=1e-5)
    assert sum(result.trained.values()) == 90
    assert result.n_steps == 12


def spy(function, seen):
    def wrapped(*arguments, **options):
        seen.append(function(*arguments, **options))
        return seen[-1]

    return wrapped


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_coordinates_outside_the_drawn_prefix_keep_their_bits(optimizer):
    model = fresh(LSTMLanguageModel(11, embedding=8, hidden=10, dropout=0.2), seed=1)
    tokens = torch.randint(2, 11, (30, 6), generator=torch.Generator().manual_seed(0))
    split = Split(tokens[:, :-1], tokens[:, 1:])
    subnet, before = extract(model, 0.8), extract(model, 0.8).state_dict()
    narrow = iter([(0.4, prefix(model, 0.4)), (0.5, prefix(model, 0.5))] * 2)
    local_train(
        subnet,
        split,
        LocalTraining(epochs=2, batch_size=16, learning_rate=0.1, optimizer=optimizer),
        (0, 0, 0),
        0.8,
        narrow,
    )
    after = subnet.state_dict()
    assert torch.equal(after["embedding.weight"][:, 4:], before["embedding.weight"][:, 4:])
    assert torch.equal(after["decoder.weight"][:, 5:], before["decoder.weight"][:, 5:])
    for gate in range(4):
        rows = slice(8 * gate, 8 * gate + 5), slice(8 * gate + 5, 8 * gate + 8)
        name = "lstms.0.weight_hh_l0"
        assert torch.equal(after[name][rows[1]], before[name][rows[1]])
        assert torch.equal(after[name][rows[0], 5:], before[name][rows[0], 5:])
        assert not (after[name][rows[0], :5] == before[name][rows[0], :5]).any()


@pytest.mark.parametrize("scaler", [False, True])
def test_training_all_of_it_is_training_without_a_draw(model, scaler):
    generator = torch.Generator().manual_seed(0)
    if isinstance(model, LSTMLanguageModel):
        inputs = torch.randint(2, 11, (20, 5), generator=generator)
        split = Split(inputs, inputs)
    else:
        shape = (20, 1, 8, 8) if isinstance(model, CNN) else (20, 6)
        split = Split(torch.randn(shape, generator=generator), torch.arange(20) % 3)
    plain, drawn = extract(model, 0.5), extract(model, 0.5)
    whole = iter([(0.5, prefix(model, 0.5))] * 3)
    settings = LocalTraining(batch_size=8, scaler=scaler)
    one = local_train(plain, split, settings, (0, 0, 0), 0.5)
    other = local_train(drawn, split, settings, (0, 0, 0), 0.5, whole)
    assert one.loss == other.loss
    assert one.trained == other.trained == {0.5: 20}
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, drawn.state_dict()[name])


# --------------------------------------------------------------------------------------- the loop


@pytest.mark.parametrize("evaluation", ["subnet", "supernet"])
@pytest.mark.parametrize("scheme", ["rolling", "random"])
def test_run_is_the_loop_written_out(mlp, scheme, evaluation):
    task, widths = make_task(), (0.5, 0.25, 0.8)
    history = run(
        mlp,
        task,
        Subnets(widths, scheme),
        rounds=3,
        seed=5,
        evaluation=Evaluation(on=evaluation),
        server=Server(aggregation="selective"),
    )
    server = copy.deepcopy(mlp)
    for number in range(3):
        updates = []
        for client, (width, split) in enumerate(zip(widths, task.train, strict=True)):
            kept = SCHEMES[scheme](server, width, key_of(5, number, "abc"[client]))
            subnet = extract(server, width, kept)
            local_train(subnet, split, LocalTraining(), key_of(5, number, "abc"[client]))
            updates.append(Update(width, len(split), subnet.state_dict(), kept))
        before = server.state_dict()
        after = aggregate(server, updates, "selective")
        trained = [
            set().union(*(units(update.kept, mlp)[group] for update in updates))
            for group in mlp.sizes
        ]
        for unit in set(range(10)) - trained[0]:
            assert torch.equal(after["layers.0.weight"][unit], before["layers.0.weight"][unit])
            assert torch.equal(
                after["layers.1.weight"][:, unit], before["layers.1.weight"][:, unit]
            )
        server.load_state_dict(after)
        for client, width in enumerate(widths):
            kept = SCHEMES[scheme](server, width, key_of(5, number, "abc"[client]))
            tested = extract(server, width, kept) if evaluation == "subnet" else server
            expected = evaluate(tested, task.test[client]).loss
            assert history.test_loss[number, client] == pytest.approx(expected, rel=1e-6)
    for name, tensor in server.state_dict().items():
        assert torch.equal(history.weights[name], tensor)


def test_run_draws_the_width_of_each_batch(mlp):
    task, rows = make_task(), []
    history = run(
        mlp,
        task,
        Subnets([0.5, 0.2, 1.0], "ordered_dropout"),
        rounds=2,
        seed=4,
        on_round=lambda number, row: rows.append(row),
        training=LocalTraining(epochs=2, batch_size=10),
    )
    sample = task.train[0].inputs[:1]
    for number, row in enumerate(rows):
        for client, (width, split) in enumerate(zip([0.5, 0.2, 1.0], task.train, strict=True)):
            sizes = [len(part) for _ in range(2) for part in torch.arange(len(split)).split(10)]
            widths = list(
                islice(uniform_fifths(width, key_of(4, number, "abc"[client])), len(sizes))
            )
            shares = [
                sum(max(1, int(own * size + 1e-6)) for size in (10, 7)) / 17 for own in widths
            ]
            assert row["mean_width"][client] == pytest.approx(np.average(shares, weights=sizes))
            flops = [training_flops(mlp, own, sample) for own in widths]
            assert history.flops[number, client] == np.dot(flops, sizes)
    held = [training_flops(mlp, width, sample) for width in (0.5, 1.0)]
    assert (history.flops[:, [0, 2]] < 2 * task.samples[[0, 2]] * held).all()
    tested = extract(mlp, 0.5)
    tested.load_state_dict(
        {"layers.0.weight": history.weights["layers.0.weight"][:5],
         "layers.0.bias": history.weights["layers.0.bias"][:5],
         "layers.1.weight": history.weights["layers.1.weight"][:3, :5],
         "layers.1.bias": history.weights["layers.1.bias"][:3],
         "layers.2.weight": history.weights["layers.2.weight"][:, :3],
         "layers.2.bias": history.weights["layers.2.bias"]}
    )  # fmt: skip
    assert history.test_loss[-1, 0] == evaluate(tested, task.test[0]).loss


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_run_depends_on_its_seed_alone(mlp, scheme):
    task = make_task()
    one, again, other = (
        run(mlp, task, Subnets([0.5, 0.2, 0.8], scheme), rounds=2, seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(one.test_loss, again.test_loss)
    for name, tensor in one.weights.items():
        assert torch.equal(tensor, again.weights[name])
    assert not torch.equal(one.weights["layers.0.weight"], other.weights["layers.0.weight"])
    assert one.metadata["scheme"] == scheme


def test_an_unknown_scheme_is_refused(mlp):
    with pytest.raises(InputError, match=r"'middle'.*rolling"):
        run(mlp, make_task(), Subnets([0.5] * 3, "middle"), rounds=1)
    assert DRAWS.keys() <= SCHEMES.keys()


# ----------------------------------------------------------------------------------------- scaler


def test_the_scaler_divides_hidden_activations_while_training(mlp):
    subnet, features = extract(mlp, 0.5), split_of(9, 0).inputs
    first, second, last = subnet.layers
    hidden = torch.relu(first(features) / 0.5)
    expected = last(torch.relu(second(hidden) / 0.5))
    plain = subnet(features)
    with scaled(subnet, 0.5):
        torch.testing.assert_close(subnet(features), expected)
        assert torch.equal(subnet.eval()(features), plain)
    assert torch.equal(subnet.train()(features), plain)
    with scaled(subnet, 1.0):
        assert torch.equal(subnet(features), plain)


def test_the_scaler_of_convolutions_and_embeddings():
    cnn = extract(fresh(MODELS["cnn"](), 1), 0.5)
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    states = images
    for convolution, norm, _, _ in cnn.stages:
        states = functional.max_pool2d(torch.relu(norm(convolution(states) / 0.5)), 2)
    with scaled(cnn, 0.5):
        torch.testing.assert_close(cnn(images), cnn.classifier(states.flatten(1)))

    lstm = extract(fresh(MODELS["lstm"](), 1), 0.5)
    tokens = torch.randint(2, 11, (4, 5), generator=torch.Generator().manual_seed(0))
    states = lstm.embedding(tokens) / 0.5
    for layer in lstm.lstms:
        states = layer(states)[0] / 0.5
    with scaled(lstm, 0.5):
        torch.testing.assert_close(lstm(tokens), lstm.decoder(states))


def test_run_scales_training_alone(mlp):
    task = make_task()
    plain, with_scaler = (
        run(mlp, task, [0.5] * 3, rounds=1, training=LocalTraining(scaler=scaler))
        for scaler in (False, True)
    )
    assert with_scaler.metadata["training.scaler"] is True
    server, updates = copy.deepcopy(mlp), []
    for client, split in enumerate(task.train):
        subnet = extract(server, 0.5)
        local_train(subnet, split, LocalTraining(scaler=True), key_of(0, 0, "abc"[client]), 0.5)
        updates.append(Update(0.5, len(split), subnet.state_dict()))
    server.load_state_dict(aggregate(server, updates))
    for name, tensor in server.state_dict().items():
        assert torch.equal(with_scaler.weights[name], tensor)
    assert not torch.equal(plain.weights["layers.0.weight"], with_scaler.weights["layers.0.weight"])
    expected = evaluate(extract(server, 0.5), task.test[0]).loss
    assert with_scaler.test_loss[0, 0] == expected
    one, other = (
        run(mlp, task, [1.0] * 3, rounds=1, training=LocalTraining(scaler=scaler))
        for scaler in (False, True)
    )
    assert torch.equal(one.weights["layers.0.weight"], other.weights["layers.0.weight"])
