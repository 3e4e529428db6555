"""Options of the training make the settings objects, and the help tells their defaults."""

from __future__ import annotations

from typing import Any, get_type_hints

import pytest

import hasa_opt as hasa
from hasa_opt.cli import training
from hasa_opt.cli.study import study
from hasa_opt.federated import Evaluation, Execution, LocalTraining, Participation, Server

PLACES = {
    "local_epochs": (LocalTraining, "epochs"),
    "batch_size": (LocalTraining, "batch_size"),
    "learning_rate": (LocalTraining, "learning_rate"),
    "optimizer": (LocalTraining, "optimizer"),
    "output_bias": (LocalTraining, "output_bias"),
    "aggregation": (Server, "aggregation"),
    "weight_power": (Server, "weight_power"),
    "evaluate_on": (Evaluation, "on"),
    "interpolation": (Evaluation, "interpolation"),
    "engine": (Execution, "engine"),
    "executor": (Execution, "executor"),
}


@pytest.mark.parametrize("option", PLACES)
def test_the_help_tells_the_default_of_the_object(option: str) -> None:
    kind, field = PLACES[option]
    (shown,) = get_type_hints(study, include_extras=True)[option].__metadata__
    assert shown.help.endswith(f"; default: {getattr(kind(), field)}.")


def test_without_options_all_objects_are_as_they_are_by_default() -> None:
    assert training.settings() == {
        "training": LocalTraining(),
        "server": Server(),
        "evaluation": Evaluation(),
        "participation": Participation(),
        "execution": Execution(),
    }


@pytest.mark.parametrize(
    ("given", "group", "made"),
    [
        ({"local_epochs": 3, "batch_size": 8}, "training", LocalTraining(epochs=3, batch_size=8)),
        ({"weight_power": 0.0}, "server", Server(weight_power=0.0)),
        ({"interpolation": "0.5"}, "evaluation", Evaluation(interpolation=0.5)),
        ({"interpolation": "validation"}, "evaluation", Evaluation(interpolation="validation")),
        ({"clients_per_round": 5}, "participation", Participation(clients_per_round=5)),
        ({"executor": "ray", "workers": 2}, "execution", Execution(executor="ray", workers=2)),
    ],
)
def test_an_option_sets_its_field_alone(given: dict[str, Any], group: str, made: object) -> None:
    assert training.settings(**given) == training.settings() | {group: made}


def test_what_is_no_share_is_refused_by_the_object() -> None:
    with pytest.raises(hasa.InputError, match="interpolation = 'half'"):
        training.settings(interpolation="half")
