"""What clients keep to themselves: output bias, personal models, and how widths are drawn."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from support import key_of

from hasa_opt.errors import InputError
from hasa_opt.federated import (
    Checkpoint,
    Evaluation,
    Execution,
    Faults,
    History,
    LocalTraining,
    MirroredWidths,
    Participation,
    Server,
    Subnets,
    evaluate,
    local_train,
    run,
)
from hasa_opt.federated.personal import output_bias
from hasa_opt.models import CNN, MLP, GRULanguageModel, Supernet, extract, fresh
from hasa_opt.tasks import Split, Task

SIZES = (40, 25, 70)
WIDTHS = np.array([0.5, 1.0, 0.25])
TRAINING = LocalTraining(batch_size=10, learning_rate=0.05)
LOCAL_BIAS = replace(TRAINING, output_bias="local")
OPTIONS = {"training": TRAINING, "seed": 3}
BIASED = {"training": LOCAL_BIAS, "seed": 3}


def points(size: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=size)
    inputs = rng.normal(size=(size, 6)) + np.eye(3, 6)[labels] * (1 + seed % 3)
    return Split(torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels))


def make_task() -> Task:
    parts = [
        tuple(points(size, 10 * part + client) for client, size in enumerate(sizes))
        for part, sizes in enumerate((SIZES, (30, 50, 20), (60, 60, 60)))
    ]
    counts = np.array([np.bincount(split.targets, minlength=3) for split in parts[0]])
    return Task("points", ("a", "b", "c"), *parts, counts, 3)


@pytest.fixture
def mlp() -> MLP:
    return fresh(MLP(6, 3, hidden=(8, 16)), seed=1)


def trained(model, task: Task, number: int, bias: torch.Tensor | None = None) -> list[dict]:
    """Local states of all clients after one round of training from a model."""
    states = []
    for client, width in enumerate(WIDTHS):
        subnet = extract(model, width)
        if bias is not None:
            subnet.get_parameter("layers.2.bias").data.copy_(bias[client])
        settings = LocalTraining(epochs=1, batch_size=10, learning_rate=0.05)
        local_train(subnet, task.train[client], settings, key_of(3, number, "abc"[client]))
        states.append({name: tensor.clone() for name, tensor in subnet.state_dict().items()})
    return states


def accuracy_of(model, state: dict, task: Task, client: int) -> float:
    model.load_state_dict(state)
    return evaluate(model, task.test[client]).accuracy


# ---------------------------------------------------------------------------- personal deployment


@pytest.mark.parametrize("mix", [0.0, 0.3, 0.75, 1.0])
def test_a_personal_model_is_global_plus_mix_of_the_difference(mlp, mix):
    task = make_task()
    history = run(
        mlp,
        task,
        WIDTHS,
        rounds=1,
        evaluation=Evaluation(on="personal", interpolation=mix),
        **OPTIONS,
    )
    server = mlp.build(mlp.sizes)
    server.load_state_dict(history.weights)
    for client, local in enumerate(trained(mlp, task, 0)):
        subnet = extract(server, WIDTHS[client])
        mixed = {n: t + mix * (local[n] - t) for n, t in subnet.state_dict().items()}
        assert history.test_accuracy[0, client] == accuracy_of(subnet, mixed, task, client)
    assert (history.interpolation[0] == mix).all()


def test_personal_deployment_changes_no_weight_and_is_measured_beside(mlp):
    task = make_task()
    plain = run(mlp, task, WIDTHS, rounds=3, **OPTIONS)
    personal = run(mlp, task, WIDTHS, rounds=3, evaluation=Evaluation(on="personal"), **OPTIONS)
    beside = run(
        mlp, task, WIDTHS, rounds=3, evaluation=Evaluation(also=("supernet", "personal")), **OPTIONS
    )
    every = run(
        mlp,
        task,
        WIDTHS,
        rounds=3,
        evaluation=Evaluation(also=("supernet", "personal"), also_after="every"),
        **OPTIONS,
    )
    for other in (personal, beside, every):
        assert all(torch.equal(other.weights[name], plain.weights[name]) for name in plain.weights)
    np.testing.assert_array_equal(every.personal_accuracy, personal.test_accuracy)
    np.testing.assert_array_equal(beside.personal_accuracy[-1], personal.test_accuracy[-1])
    assert np.isnan(beside.personal_accuracy[:-1]).all()
    assert np.isnan(plain.personal_accuracy).all()
    whole = run(mlp, task, WIDTHS, rounds=3, evaluation=Evaluation(on="supernet"), **OPTIONS)
    np.testing.assert_array_equal(every.supernet_accuracy, whole.test_accuracy)
    np.testing.assert_array_equal(every.test_accuracy, plain.test_accuracy)
    assert not np.array_equal(personal.test_accuracy, plain.test_accuracy)
    assert not plain.clients
    assert personal.clients


def test_the_mix_is_the_one_that_validation_likes_best(mlp):
    task = make_task()
    options = {"rounds": 2, **OPTIONS}
    chosen = run(
        mlp,
        task,
        WIDTHS,
        evaluation=Evaluation(on="personal", interpolation="validation"),
        **options,
    )
    mixes = (0.0, 0.25, 0.5, 0.75, 1.0)
    fixed = [
        run(mlp, task, WIDTHS, evaluation=Evaluation(on="personal", interpolation=mix), **options)
        for mix in mixes
    ]
    sizes = np.array([30, 50, 20])
    for number in range(2):
        pooled = [own.validation_accuracy[number] @ sizes for own in fixed]
        best = int(np.argmax(pooled))
        assert set(chosen.interpolation[number]) == {mixes[best]}
        for name in ("test_accuracy", "validation_accuracy"):
            found, expected = getattr(chosen, name)[number], getattr(fixed[best], name)[number]
            np.testing.assert_array_equal(found, expected)


def test_clients_without_validation_targets_have_no_say_in_the_mix(mlp):
    task = make_task()
    options = {"rounds": 2, **OPTIONS}
    blank = [Split(own.inputs, torch.full_like(own.targets, -100)) for own in task.validation]
    some = replace(task, validation=(blank[0], *task.validation[1:]))
    chosen = run(
        mlp,
        some,
        WIDTHS,
        evaluation=Evaluation(on="personal", interpolation="validation"),
        **options,
    )
    mixes = (0.0, 0.25, 0.5, 0.75, 1.0)
    fixed = [
        run(mlp, some, WIDTHS, evaluation=Evaluation(on="personal", interpolation=mix), **options)
        for mix in mixes
    ]
    pooled = [own.validation_accuracy[-1][1:] @ [50, 20] for own in fixed]
    assert len(set(pooled)) > 1
    assert set(chosen.interpolation[-1]) == {mixes[int(np.argmax(pooled))]}
    none = run(
        mlp,
        replace(task, validation=tuple(blank)),
        WIDTHS,
        evaluation=Evaluation(on="personal", interpolation="validation"),
        **options,
    )
    assert set(none.interpolation[-1]) == {0.0}


def test_who_never_trained_deploys_the_global_model(mlp):
    task, never = make_task(), Faults(dropout=1.0)
    with pytest.warns(UserWarning, match="no update"):
        history = run(
            mlp,
            task,
            WIDTHS,
            rounds=1,
            evaluation=Evaluation(on="personal"),
            participation=Participation(faults=never),
            **OPTIONS,
        )
    expected = [evaluate(extract(mlp, w), task.test[c]).accuracy for c, w in enumerate(WIDTHS)]
    assert history.test_accuracy[0].tolist() == expected


def test_a_personal_model_is_made_of_the_units_that_were_trained(mlp):
    task = make_task()
    history = run(
        mlp,
        task,
        Subnets(WIDTHS, "random"),
        rounds=2,
        evaluation=Evaluation(on="personal", interpolation=1.0),
        **OPTIONS,
    )
    for client, width in enumerate(WIDTHS):
        subnet = extract(mlp, width)
        start = f"{client}/model/"
        state = {n[len(start) :]: t for n, t in history.clients.items() if n.startswith(start)}
        assert history.test_accuracy[1, client] == accuracy_of(subnet, state, task, client)


# ------------------------------------------------------------------------------------ output bias


def test_a_local_bias_is_neither_sent_nor_averaged(mlp):
    task, name = make_task(), "layers.2.bias"
    history = run(
        mlp,
        task,
        WIDTHS,
        rounds=2,
        **BIASED,
    )
    before = dict(mlp.named_parameters())[name].detach()
    assert torch.equal(history.weights[name], before)
    one = run(mlp, task, WIDTHS, rounds=1, **BIASED)
    first = trained(mlp, task, 0)
    server = mlp.build(mlp.sizes)
    server.load_state_dict(one.weights)
    second = trained(server, task, 1, torch.stack([state[name] for state in first]))
    server.load_state_dict(history.weights)
    for client, state in enumerate(second):
        assert torch.equal(history.clients[f"{client}/bias"], state[name])
        subnet = extract(server, WIDTHS[client])
        own = subnet.state_dict() | {name: state[name]}
        assert history.test_accuracy[1, client] == accuracy_of(subnet, own, task, client)
    shared = run(mlp, task, WIDTHS, rounds=2, **OPTIONS)
    assert (shared.bytes_up - history.bytes_up == 3 * 4).all()


@pytest.mark.parametrize("engine", ["batched", "auto"])
def test_engines_agree_on_local_biases(mlp, engine):
    task = make_task()
    options = {"rounds": 3, "evaluation": Evaluation(on="personal"), **BIASED}
    widths = [0.5, 0.5, 0.5]
    expected = run(mlp, task, widths, **options)
    found = run(mlp, task, widths, execution=Execution(engine=engine), **options)
    for name, tensor in expected.clients.items():
        torch.testing.assert_close(found.clients[name], tensor, rtol=1e-4, atol=1e-5)
    for name, tensor in expected.weights.items():
        torch.testing.assert_close(found.weights[name], tensor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (MLP(6, 3, hidden=(8, 3)), "layers.2.bias"),
        (GRULanguageModel(11, 4, 11), "decoder.bias"),
        (CNN(5, (4, 4)), None),
        (
            Supernet(
                torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)),
                torch.randn(2, 6),
            ),
            "2.bias",
        ),
    ],
)
def test_the_output_bias_is_found(model, name):
    found = output_bias(model)
    assert model.get_parameter(found).shape == (model.n_outputs,)
    if name is not None:
        assert found == name


def test_a_model_without_output_bias_is_refused():
    bare = torch.nn.Sequential(
        torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3, bias=False)
    )
    model = Supernet(bare, torch.randn(2, 6))
    with pytest.raises(InputError, match=r'no linear output layer.*output_bias="shared"'):
        run(
            model,
            make_task(),
            WIDTHS,
            rounds=1,
            **BIASED,
        )


# ---------------------------------------------------------------------------------- weight powers


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("aggregation", ["full", "selective"])
def test_clients_weigh_by_a_power_of_their_samples(mlp, power, aggregation):
    task = make_task()
    options = {"server": Server(aggregation=aggregation, weight_power=power), **OPTIONS}
    history = run(mlp, task, [1.0, 1.0, 1.0], rounds=1, **options)
    weights = np.array(SIZES, dtype=float) ** power
    weights /= weights.sum()
    states = []
    for client in range(3):
        subnet = extract(mlp, 1.0)
        local_train(
            subnet,
            task.train[client],
            LocalTraining(epochs=1, batch_size=10, learning_rate=0.05),
            key_of(3, 0, "abc"[client]),
        )
        states.append(subnet.state_dict())
    for name, tensor in history.weights.items():
        expected = sum(w * own[name].double() for w, own in zip(weights, states, strict=True))
        torch.testing.assert_close(tensor, expected.float(), rtol=1e-5, atol=1e-7)


# -------------------------------------------------------------------------------- mirrored widths


def test_mirrored_widths_have_the_mean_over_two_rounds_whatever_the_batches():
    draw, sizes = MirroredWidths(0.5, 1 / 16), [32, 32, 32, 7]
    for client in range(5):
        total = 0.0
        for number in (4, 5):
            drawn = list(islice(draw(0.75, (1, number, client)), 4))
            assert all(0.25 - 1e-9 <= width <= 0.75 + 1e-9 for width in drawn)
            assert drawn[0] + drawn[1] == pytest.approx(1.0)
            total += np.dot(drawn, sizes)
        assert total / (2 * sum(sizes)) == pytest.approx(0.5)


def test_mirrored_widths_are_uniform_on_their_grid():
    draw = MirroredWidths(0.5, 1 / 8)
    drawn = [w for n in range(0, 400, 2) for w in islice(draw(0.75, (2, n, 0)), 10)]
    values, counts = np.unique(np.round(drawn, 9), return_counts=True)
    assert values.tolist() == [0.25, 0.375, 0.5, 0.625, 0.75]
    assert counts.min() > 0.8 * len(drawn) / 5
    assert list(islice(draw(0.5, (2, 0, 0)), 4)) == [0.5] * 4


def test_a_run_trains_the_mean_width(mlp):
    task = make_task()
    means = np.array([0.5, 0.75, 0.25])
    history = run(mlp, task, Subnets(means + 0.125, "ordered_dropout", means), rounds=8, **OPTIONS)
    np.testing.assert_allclose(history.mean_width.mean(axis=0), means, atol=1e-9)
    assert history.mean_width.std(axis=0).max() > 0


# ---------------------------------------------------------------------------- storage and refusal


@pytest.mark.filterwarnings("ignore:round .* no update was left")
def test_a_resumed_run_remembers_what_clients_keep(mlp, tmp_path):
    task = make_task()
    options = {
        "evaluation": Evaluation(on="personal", also=("supernet", "personal"), also_after="every"),
        "participation": Participation(clients_per_round=2, faults=Faults(dropout=0.2)),
        **BIASED,
    }
    subnets = Subnets(WIDTHS, "random")
    whole = run(mlp, task, subnets, rounds=6, **options)
    run(mlp, task, subnets, rounds=3, checkpoint=tmp_path / "c", **options)
    resumed = run(
        mlp, task, subnets, rounds=6, checkpoint=Checkpoint(tmp_path / "c", resume=True), **options
    )
    # The last round of the first part measures all clients, so that rows 2 differ.
    rows = [0, 1, 3, 4, 5]
    for name in ("test_accuracy", "personal_accuracy", "supernet_accuracy", "mean_width"):
        np.testing.assert_array_equal(getattr(whole, name)[rows], getattr(resumed, name)[rows])
    for found, expected in ((resumed.weights, whole.weights), (resumed.clients, whole.clients)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    resumed.save(tmp_path / "saved")
    loaded = History.load(tmp_path / "saved")
    assert loaded.clients.keys() == whole.clients.keys()
    assert all(torch.equal(loaded.clients[name], t) for name, t in whole.clients.items())


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (Evaluation, {"on": "local"}, r"unknown on 'local'"),
        (Evaluation, {"also": ("subnet",)}, "unknown also 'subnet'"),
        (Evaluation, {"also_after": True}, "unknown also_after True"),
        (Evaluation, {"interpolation": 1.5}, r"interpolation = 1\.5"),
        (Evaluation, {"interpolation": "test"}, r"interpolation = 'test'"),
        (Evaluation, {"interpolation": float("nan")}, "interpolation = nan"),
        (LocalTraining, {"output_bias": "none"}, "unknown output_bias 'none'"),
        (LocalTraining, {"epochs": 0}, "epochs = 0"),
        (LocalTraining, {"batch_size": 0}, "batch_size = 0"),
        (LocalTraining, {"batch_size": 2.5}, "batch_size = 2.5"),
        (LocalTraining, {"learning_rate": 0.0}, "learning_rate = 0.0"),
        (LocalTraining, {"learning_rate": float("nan")}, "learning_rate = nan"),
        (LocalTraining, {"learning_rate": "fast"}, "learning_rate = fast"),
        (LocalTraining, {"optimizer": "lion"}, "'lion'"),
        (Server, {"aggregation": "median"}, "'median'"),
        (Server, {"max_update_norm": "large"}, "max_update_norm = large"),
        (Server, {"max_update_norm": float("inf")}, "max_update_norm = inf must be positive"),
        (Execution, {"engine": ["batched"]}, r"unknown engine \['batched'\]"),
        (Server, {"weight_power": -1}, "weight_power = -1"),
        (Server, {"weight_power": "1"}, "weight_power = 1"),
        (Server, {"max_update_norm": 0}, "max_update_norm = 0"),
        (Execution, {"engine": "fast"}, "unknown engine 'fast'"),
        (Execution, {"executor": "cloud"}, "unknown executor 'cloud'"),
        (Execution, {"workers": 0}, "workers = 0"),
        (Participation, {"clients_per_round": 0}, "clients_per_round = 0"),
        (Participation, {"faults": 0.5}, "faults is a float"),
    ],
)
def test_wrong_settings_are_refused_when_they_are_made(make, options, message):
    with pytest.raises(InputError, match=message):
        make(**options)


def test_the_settings_take_keywords_alone_and_cannot_be_changed():
    for kind in (LocalTraining, Server, Evaluation, Participation, Execution):
        with pytest.raises(TypeError):
            kind(1)
        with pytest.raises(AttributeError):
            setattr(kind(), next(iter(kind.__dataclass_fields__)), 1)
    assert Evaluation(also="personal").also == ("personal",)
    assert Evaluation(also=["personal", "supernet"]) == Evaluation(also=("supernet", "personal"))


@pytest.mark.parametrize(
    ("subnets", "message"),
    [
        (lambda: Subnets(WIDTHS, mean_widths=WIDTHS), "\"ordered_dropout\", not 'prefix'"),
        (lambda: Subnets(WIDTHS, "ordered_dropout", WIDTHS / 2), "above half the width"),
        (lambda: Subnets(WIDTHS, "spiral"), "unknown scheme 'spiral'"),
        (lambda: Subnets(WIDTHS[:2]), "shape"),
    ],
)
def test_wrong_subnets_are_refused_before_training(mlp, subnets, message):
    with pytest.raises(InputError, match=message):
        run(mlp, make_task(), subnets(), rounds=1, **OPTIONS)


def test_a_single_run_refuses_what_only_a_study_can_do(mlp):
    for execution in (Execution(executor="ray"), Execution(executor="ray", workers=2)):
        with pytest.raises(InputError, match="a single run stays on this machine"):
            run(mlp, make_task(), WIDTHS, rounds=1, execution=execution, **OPTIONS)
