"""What a move of modules must not change: names, signatures, printed output, trained bits.

Each scenario is a function without arguments that returns a value which JSON can hold.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
from apparatus import (
    ALLOCATION,
    ROOT,
    WIDTHS,
    both,
    cnn,
    command,
    counting,
    digest,
    faults,
    folder,
    images,
    lstm,
    mlp,
    normalised,
    plain,
    points,
    printed,
    rounded,
    shown,
    study,
    table,
    train,
)

import hasa_opt as hasa
from hasa_opt.errors import HasaError

MODULES = ("cost", "errors", "federated", "models", "rules", "scores", "tasks", "utility")
DATA = ("--data", "titles.csv", "--text-column", "title", "--client-column", "publication")
SMALL = ("--hidden", 8, "--embedding", 8)

Scenario = Callable[[], Any]

SCENARIOS: dict[str, Scenario] = {}
"""Name to function."""

TRAINED: set[str] = set()
"""Names of the scenarios that train: their bits hang on the processor and on torch."""


def scenario(function: Scenario) -> Scenario:
    """Keep a scenario under the name of its function."""
    SCENARIOS[function.__name__] = function
    return function


def training(function: Scenario) -> Scenario:
    """Keep a scenario that trains."""
    TRAINED.add(function.__name__)
    return scenario(function)


def observe(name: str) -> Any:
    """What a scenario returns, as JSON gives it back; its random draws are its own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return json.loads(json.dumps(SCENARIOS[name]()))


# ------------------------------------------------------------------------- names and signatures


def _stated(function: Any) -> str:
    """A signature without the modules of its annotations and the addresses of its defaults."""
    try:
        stated = str(inspect.signature(function))
    except ValueError:  # An alias of a type, or an exception as Python makes it.
        stated = "" if inspect.isclass(function) else str(function)
    text = re.sub(r" at 0x[0-9a-f]+", "", stated)
    return re.sub(r"\b(?:[A-Za-z_]\w*\.)+(?=[A-Za-z_])", "", text)


def _is_own(member: Any) -> bool:
    return str(getattr(member, "__module__", "")).split(".")[0] == hasa.__name__


def _members(kind: type) -> dict[str, str]:
    """Public attributes of a class of ours: signatures of its methods, else what they are."""
    owners = [own for own in kind.__mro__ if _is_own(own)]
    names = {name for own in owners for name in (*vars(own), *vars(own).get("__annotations__", {}))}
    found = {}
    for name in sorted(own for own in names if not own.startswith("_")):
        member = inspect.getattr_static(kind, name, None)
        if callable(getattr(kind, name, None)):
            found[name] = _stated(getattr(kind, name))
        else:
            is_property = isinstance(member, property) or hasattr(member, "attrname")
            found[name] = "property" if is_property else "attribute"
    return found


def _described(thing: Any) -> Any:
    if isinstance(thing, ModuleType):
        return "module"
    if inspect.isclass(thing):
        return {"class": _stated(thing), "members": _members(thing)}
    if callable(thing):
        return _stated(thing)
    keys = sorted(map(str, thing)) if isinstance(thing, Mapping) else None
    return {"of type": type(thing).__name__} if keys is None else {"keys": keys}


def _signatures(module: ModuleType) -> dict[str, Any]:
    return {name: _described(getattr(module, name)) for name in sorted(module.__all__)}


@scenario
def public_names() -> Any:
    names = {name: sorted(getattr(hasa, name).__all__) for name in MODULES}
    return {"hasa_opt": sorted(hasa.__all__)} | names


@scenario
def signatures() -> Any:
    return _signatures(hasa)


@scenario
def signatures_of_modules() -> Any:
    return {name: _signatures(getattr(hasa, name)) for name in MODULES}


@scenario
def errors_and_their_bases() -> Any:
    kinds = {name: getattr(hasa.errors, name) for name in hasa.errors.__all__}
    return {
        name: [own.__name__ for own in kind.__mro__]
        for name, kind in kinds.items()
        if inspect.isclass(kind)
    }


@scenario
def registered_solvers() -> Any:
    return {
        line.name: {
            "capabilities": sorted(str(flag.name) for flag in line.capabilities),
            "constraints": line.taken(),
            "install": line.install,
            "summary": line.summary,
        }
        for line in hasa.solvers()
    }


@scenario
def names_of_weights() -> Any:
    """Names and shapes that stored weights have."""
    made = {"mlp": mlp(), "lstm": lstm(), "cnn": cnn(), "plain": plain(), "norm": normalised()}
    return {
        name: {key: list(tensor.shape) for key, tensor in model.state_dict().items()}
        for name, model in made.items()
    }


# ----------------------------------------------------------------------------------- allocation


def problem(**options: Any) -> hasa.AllocationProblem:
    clients = hasa.Clients.from_counts(
        [[90, 5, 5], [10, 80, 10], [30, 30, 40], [2, 3, 15]],
        names=["phone", "camera", "laptop", "sensor"],
        max_width=[0.5, 0.8, 0.8, 0.35],
    )
    worth = hasa.utility.hasa(hasa.scores.jensen_shannon(clients.counts))
    settings: dict[str, Any] = {"widths": WIDTHS, "budget": 0.5, "utility": worth} | options
    return hasa.AllocationProblem.build(clients, **settings)


@scenario
def answers_of_solvers() -> Any:
    """What each installed solver answers; a refusal is its message."""
    asked = {
        "budget": problem(),
        "coverage": problem(constraints=[hasa.Coverage({0.8: 0.1})]),
        "quota": problem(constraints=[hasa.Quota({0.35: 2})]),
        "poorest first": problem(constraints=[hasa.Fairness("maxmin")]),
    }
    found: dict[str, Any] = {}
    for line in (own for own in hasa.solvers() if own.available):
        for name, own in asked.items():
            try:
                result = hasa.solve(own, line.name)
                said = [result.widths.tolist(), result.objective, str(result.termination)]
            except HasaError as error:
                said = [type(error).__name__, str(error)]
            found[f"{line.name}: {name}"] = rounded(said)
    return found


@scenario
def infeasible_problems() -> Any:
    found = {}
    for name, options in {
        "budget": {"budget": 0.1},
        "coverage": {"constraints": [hasa.Coverage({0.8: 0.99})]},
    }.items():
        try:
            found[name] = str(hasa.solve(problem(**options)))
        except HasaError as error:
            found[name] = f"{type(error).__name__}: {error}"
    return found


@scenario
def scores_and_rules() -> Any:
    clients = problem().clients
    own = hasa.scores.jensen_shannon(clients.counts)
    ruled = hasa.rules.hasa(own, clients.samples, budget=0.5)
    paper = hasa.rules.hasa(own, clients.samples, budget=0.5, passes=2)
    values = {name: score(clients.counts) for name, score in hasa.scores.SCORES.items()}
    values |= {"the rule of HASA": ruled, "in two passes": paper}
    return {name: rounded(value.tolist()) for name, value in values.items()}


# --------------------------------------------------------------------------------- command line


@scenario
def command_help() -> Any:
    commands = ("", "solvers", "score", "allocate", "compare", "headroom", "study", "flower")
    calls = [*(name.split() for name in commands), ["flower", "new"]]
    return {" ".join(own) or "hasa-opt": shown(*own, "--help") for own in calls}


@scenario
def command_solvers() -> Any:
    return both("solvers")


@scenario
def command_score() -> Any:
    with folder():
        return {"default": both("score", "clients.csv")} | {
            name: shown("score", "clients.csv", "--score", name, "--json")
            for name in hasa.scores.SCORES
        }


@scenario
def command_allocate() -> Any:
    variants: dict[str, tuple[object, ...]] = {
        "default": (),
        "highs": ("--solver", "highs", "--budget", 0.4, "--widths", "0.2,0.5,0.7"),
        "quadratic": ("--cost", "quadratic"),
        "coverage": ("--coverage", "0.8=0.1"),
        "leximin": ("--fairness", "leximin"),
        "wide": ("--budget", 0.9),
    }
    with folder():
        found = {name: both("allocate", "clients.csv", *own) for name, own in variants.items()}
        command("allocate", "clients.csv", "-o", "widths.csv")
        return found | {"file": Path("widths.csv").read_text(encoding="utf-8").splitlines()}


@scenario
def command_compare() -> Any:
    with folder():
        return both("compare", "clients.csv") | {
            "maxmin": shown("compare", "clients.csv", "--fairness", "maxmin", "--json")
        }


@scenario
def command_headroom_of_a_table() -> Any:
    with folder():
        return both("headroom", "clients.csv", "--utilities", "table.csv", "--noise", 0.5)


@scenario
def command_mistakes() -> Any:
    calls: tuple[tuple[object, ...], ...] = (
        ("allocate", "clients.csv", "--budget", 0.1),
        ("allocate", "clients.csv", "--solver", "magic"),
        ("allocate", "clients.csv", "--widths", "a,b"),
        ("allocate", "clients.csv", "--coverage", "0.8"),
        ("allocate", "clients.csv", "-o", "clients.csv"),
        ("score", "missing.csv"),
        ("headroom", "clients.csv"),
        ("study", "--task", "magic"),
        ("study", "--data", "titles.csv"),
        ("flower", "new", "app", "--task", "magic"),
    )
    with folder():
        return {" ".join(map(str, own)): shown(*own) for own in calls}


@scenario
def command_flower_new() -> Any:
    with folder():
        said = shown("flower", "new", "app", *DATA, *SMALL)
        files = sorted(str(own) for own in Path("app").rglob("*") if own.is_file())
        return said | {"files": files}


@training
def command_headroom_of_data() -> Any:
    small = (*DATA, *SMALL, "--widths", "0.25,0.5,1", "--rounds", 2)
    with folder():
        return both("headroom", *small) | {
            "pilot": both("headroom", *small, "--pilot", 2, "--deploy", 1.0)
        }


@training
def command_study() -> Any:
    call = ("study", *DATA, *SMALL, "--policies", "uniform,hasa+personal", "--seeds", 2,
            "--rounds", 2, "--workers", 1, "--output", "out")  # fmt: skip
    with folder():
        found = both(*call)
        files = sorted(own.name for own in Path("out").iterdir())
        report = Path("out/report.html").read_text(encoding="utf-8")
        titles = [re.sub("<[^>]+>", "", own) for own in re.findall(r"<h2.*?</h2>", report, re.S)]
        return found | {"files": files, "results": table("out/results.csv"), "sections": titles}


# --------------------------------------------------------------------------------------- README


@scenario
def readme() -> Any:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```\n+```text\n(.*?)```", text, flags=re.DOTALL)
    found = []
    for code, _ in blocks:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "README.md", "exec"), {})
        found.append(printed(out.getvalue()))
    return found


# ------------------------------------------------------------------------------------- training


@training
def train_full_and_selective() -> Any:
    return {
        name: digest(train(mlp(), points(), ALLOCATION, aggregation=name))
        for name in ("full", "selective")
    }


@training
def train_engines() -> Any:
    cases = {"mlp": (mlp, points), "lstm": (lstm, counting), "cnn": (cnn, images)}
    return {
        f"{name}, {engine}": digest(train(model(), task(), ALLOCATION, engine=engine))
        for name, (model, task) in cases.items()
        for engine in ("sequential", "batched", "auto")
    }


class _Stopped(Exception):
    """Ends a run from the inside."""


@training
def train_resumed() -> Any:
    """A run that is stopped after two rounds and resumed ends as one that was never stopped."""
    options: dict[str, Any] = {"sample": 3, "faults": faults(0.2, 0.1, 0.2)}

    def stop(number: int, row: object) -> None:
        if number == 1:
            raise _Stopped

    with TemporaryDirectory() as place:
        with contextlib.suppress(_Stopped):
            train(mlp(), points(), ALLOCATION, checkpoint=place, on_round=stop, **options)
        stored = sorted(own.name for own in Path(place).iterdir() if own.is_dir())
        resumed = train(mlp(), points(), ALLOCATION, checkpoint=place, resume=True, **options)
        files = sorted(str(own.relative_to(place)) for own in Path(place).rglob("*.*"))
    whole = train(mlp(), points(), ALLOCATION, **options)
    return {
        "stored": stored,
        "files": files,
        "whole": digest(whole),
        "resumed": digest(resumed),
    }


@training
def train_schemes() -> Any:
    """FedRolex, Federated Dropout and FjORD by their names here."""
    schemes = ("rolling", "random", "ordered_dropout")
    return {
        f"{name}, {kind}": digest(train(model(), task(), ALLOCATION, scheme=name))
        for name in schemes
        for kind, model, task in (("mlp", mlp, points), ("lstm", lstm, counting))
    }


@training
def train_mean_widths() -> Any:
    options = {"scheme": "ordered_dropout", "mean_widths": (0.5, 0.75, 0.5, 0.5)}
    return digest(train(mlp(), points(), (0.75, 1.0, 0.5, 0.75), **options))


@training
def train_samples_and_faults() -> Any:
    variants: dict[str, dict[str, Any]] = {
        "sampled": {"sample": 2},
        "faults": {"faults": faults(0.2, 0.2, 0.3)},
        "both, selective": {
            "sample": 3,
            "faults": faults(0.2, 0.0, 0.3),
            "aggregation": "selective",
        },
        "small norm": {"max_norm": 1.0},
    }
    return {
        name: digest(train(mlp(), points(), ALLOCATION, **own)) for name, own in variants.items()
    }


@training
def train_personal() -> Any:
    variants: dict[str, dict[str, Any]] = {
        "personal": {"deploy": "personal"},
        "mix by validation": {"deploy": "personal", "mix": "validation"},
        "others": {"other_deployments": "every"},
        "others, last": {"other_deployments": "last", "mix": 0.5},
        "local bias": {"output_bias": "local"},
        "personal with local bias": {"deploy": "personal", "output_bias": "local"},
    }
    found = {
        name: digest(train(mlp(), points(), ALLOCATION, **own)) for name, own in variants.items()
    }
    text = train(lstm(), counting(), ALLOCATION, engine="batched", **variants["local bias"])
    return found | {"local bias, lstm, batched": digest(text)}


@training
def train_settings() -> Any:
    variants: dict[str, dict[str, Any]] = {
        "weights by root": {"weight_power": 0.5},
        "equal weights": {"weight_power": 0.0, "aggregation": "selective"},
        "sgd": {"optimizer": "sgd", "learning_rate": 0.1, "local_epochs": 2},
        "scaler": {"scaler": True},
        "supernet tested": {"evaluate": "supernet"},
    }
    return {
        name: digest(train(mlp(), points(), ALLOCATION, **own)) for name, own in variants.items()
    }


@training
def train_traced() -> Any:
    return {
        engine: digest(train(plain(), points(), ALLOCATION, engine=engine))
        for engine in ("sequential", "batched")
    }


@training
def train_batch_norm() -> Any:
    return {
        name: digest(train(normalised(), images(), ALLOCATION, batch_norm=name))
        for name in ("static", "per_width")
    }


# --------------------------------------------------------------------------------------- studies


def _written(done: hasa.Study) -> dict[str, Any]:
    """The file of results, the columns of that of rounds, and the summary."""
    with TemporaryDirectory() as place:
        done.write_results(Path(place) / "results.csv")
        done.to_csv(Path(place) / "rounds.csv")
        found = {"results": table(Path(place) / "results.csv")}
        rounds = table(Path(place) / "rounds.csv")
    return found | {
        "rounds": {name: rounds[name] for name in ("columns", "lines")},
        "record": rounded(done.record()),
    }


@training
def study_of_policies() -> Any:
    policies = ("uniform", "hasa", "reverse", "optimal", "measured", "fjord", "fedrolex")
    options = {"policies": policies, "seeds": (0, 1), "rounds": 3, "probe_rounds": 1}
    return _written(study(points(), mlp(), batch_size=8, **options))


@training
def study_of_options() -> Any:
    policies = ("uniform", "hasa+personal", "uniform+local_bias", "uniform+selective+n^0.5")
    shared: dict[str, Any] = {"policies": policies, "seeds": (0, 1), "rounds": 3, "batch_size": 8}
    variants: dict[str, dict[str, Any]] = {
        "flops, best round": {"budget_in": "flops", "rounds_by": "validation"},
        "sampled, faulty": {"sample": 3, "faults": faults(0.1, 0.0, 0.1)},
        "capped": {"max_width": (0.5, 0.8, 0.8, 0.35), "mix": "validation"},
    }
    return {
        name: _written(study(points(), mlp(), **shared, **own)) for name, own in variants.items()
    }


@training
def study_of_a_recommendation() -> Any:
    options = {"policies": ("uniform", "recommended"), "seeds": (0,), "rounds": 2}
    done = study(points(), mlp(), batch_size=8, probe_rounds=2, pilot_repeats=2, **options)
    return _written(done) | {"reasons": [own.reason for own in done.outcomes]}
