"""The package as a whole: one root of errors, a frozen API, runnable examples, readable modules."""

from __future__ import annotations

import ast
import builtins
import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import hasa_opt
from hasa_opt import errors, federated
from hasa_opt.study import Results

ROOT = Path(hasa_opt.__file__).parent
SOURCES = [path for path in sorted(ROOT.rglob("*.py")) if "template" not in path.parts]
WITH_EXAMPLES = [path for path in SOURCES if ">>> " in path.read_text(encoding="utf-8")]


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# ------------------------------------------------------------------------------------- errors


def test_one_root_of_all_errors():
    public = [getattr(errors, name) for name in errors.__all__]
    defined = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    ]
    assert set(public) == set(defined)
    assert all(issubclass(kind, errors.HasaError) for kind in public)
    assert issubclass(errors.InputError, ValueError)
    assert issubclass(errors.SolverNotInstalledError, ImportError)


def raised(tree: ast.AST) -> list[tuple[int, str]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            call = node.exc
            target = call.func if isinstance(call, ast.Call) else call
            found.append((node.lineno, ast.unparse(target)))
    return found


# AttributeError is the protocol of module __getattr__, KeyError that of mappings;
# AssertionError marks the unreachable;
# KeyboardInterrupt is a Ctrl-C that waited for the end of a round;
# OutOfTime and Unsolved never leave solve(), which makes them a termination; TooMuch never leaves
# the exact solver, which then compiles its loops; MismatchError never
# leaves Supernet(), which makes it a refusal;
# `table.fail(...)` and names in lower case are instances of errors made elsewhere.
ALLOWED = {
    "NotImplementedError",
    "AttributeError",
    "KeyError",
    "IndexError",
    "AssertionError",
    "KeyboardInterrupt",
    "MismatchError",
    "OutOfTime",
    "TooMuch",
    "Unsolved",
    "CannotStackError",
    "typer.Exit",
    "SystemExit",
}


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_only_errors_of_the_library_are_raised(path):
    for line, name in raised(ast.parse(path.read_text())):
        last = name.split(".")[-1]
        kind = getattr(errors, last, None) or getattr(builtins, last, None)
        if isinstance(kind, type):
            assert issubclass(kind, errors.HasaError) or last in ALLOWED, f"{path}:{line} {name}"
        else:
            assert name in ALLOWED or last[0].islower() or last.startswith("_"), (
                f"{path}:{line} {name}"
            )


def test_the_check_of_raises_sees_them():
    tree = ast.parse("def f():\n    raise ValueError('x')\n")
    assert raised(tree) == [(2, "ValueError")]
    assert sum(len(raised(ast.parse(path.read_text()))) for path in SOURCES) > 60


# ------------------------------------------------------------------------------------- public


def test_the_public_names_are_frozen():
    assert set(hasa_opt.__all__) >= {
        "Allocation",
        "AllocationProblem",
        "AtLeast",
        "Budget",
        "Changes",
        "Clients",
        "Clock",
        "Comparison",
        "Coverage",
        "Deadline",
        "Explanation",
        "FileAllocation",
        "FileProblem",
        "HasaError",
        "InfeasibleError",
        "InputError",
        "Menu",
        "Partition",
        "PartitionProblem",
        "Quota",
        "Study",
        "Termination",
        "changes",
        "compare",
        "cost",
        "errors",
        "explain",
        "federated",
        "models",
        "partition",
        "rules",
        "scores",
        "solve",
        "solve_continuous",
        "solve_files",
        "solvers",
        "tasks",
        "utility",
        "verify_files",
    }
    assert set(dir(hasa_opt)) == set(hasa_opt.__all__)
    for name in hasa_opt.__all__:
        assert getattr(hasa_opt, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = hasa_opt.nonsense
    assert hasa_opt.__version__


REQUIRED = inspect.Parameter.empty
SIGNATURES = {
    "Clients": (
        ["samples"],
        {"counts": None, "max_width": None, "names": None, "site": None},
    ),
    "scores.jensen_shannon": (["counts"], {"alpha": 1.0}),
    "scores.excess": (["counts"], {"alpha": 1.0, "seed": 0}),
    "scores.private": (["counts", "epsilon", "delta"], {"seed": 0}),
    "rules.hasa": (
        ["scores", "samples"],
        {"budget": 0.5, "widths": (0.2, 0.8), "caps": None, "passes": "exact"},
    ),
    "AllocationProblem.build": (
        ["clients"],
        {
            "widths": None,
            "menu": None,
            "budget": None,
            "utility": REQUIRED,
            "constraints": (),
        },
    ),
    "solve": (
        ["problem", "solver"],
        {"time_limit_s": None, "gap": 0.0, "fallback": None, "warm_start": None},
    ),
    "explain": (["result", "client"], {}),
    "changes": (["result", "previous"], {}),
    "FileProblem": (
        ["path"],
        {"widths": None, "menu": None, "budget": None, "limit": None, "utility": "hasa"},
    ),
    "solve_files": (["problem", "output"], {"executor": "local", "workers": None}),
    "verify_files": (["problem", "path"], {"executor": "local", "workers": None}),
    "AllocationProblem.write": (["self", "path"], {}),
    "AllocationProblem.save": (["self", "path"], {}),
    "AllocationProblem.load": (["path"], {}),
    "Allocation.save": (["self", "path"], {}),
    "Allocation.load": (["path"], {}),
    "Allocation.plot": (["self"], {"by": None, "ax": None}),
    "AllocationProblem.plot": (["self"], {"ax": None}),
    "Comparison.plot": (["self"], {"ax": None}),
    "Frontier.explore": (["self", "path"], {}),
    "Frontier.plot": (["self"], {"ax": None}),
    "Partition.plot": (["self", "similarity"], {"ax": None}),
    "PartitionProblem.plot": (["self"], {"ax": None}),
    "Sensitivity.plot": (["self", "of"], {"ax": None}),
    "frontier": (["problem", "budgets", "solver"], {"over": "budget"}),
    "rules.by_counts": (["counts"], {"least": 0.5, "level": 0.05, "seed": 0}),
    "rules.by_updates": (["similarity"], {"level": 0.01, "draws": None, "seed": 0}),
    "federated.History.device_bytes": (["self"], {"personal": False}),
    "Study.rounds_table": (["self"], {}),
    "partition": (
        ["similarity", "solver"],
        {
            "names": None,
            "max_groups": None,
            "max_size": None,
            "time_limit_s": None,
            "gap": 0.0,
            "seed": 0,
        },
    ),
    "compare": (["problem", "solvers"], {"time_limit_s": None, "gap": 0.0}),
    "utility.hasa": (["scores"], {"widths": None}),
    "utility.alpha_fair": (["weights"], {"alpha": 1.0}),
    "utility.saturating": (["scores"], {"tau": 0.3}),
    "cost.table": (["costs"], {"full": None}),
    "Menu": (
        ["names"],
        {"costs": REQUIRED, "per": None, "attributes": None, "allowed": None, "full": None},
    ),
    "Menu.of_widths": (["widths"], {"skip": False}),
    "Menu.from_frame": (["frame"], {"option": "option", "client": None, "costs": REQUIRED}),
    "Clock": (
        ["flops_per_s", "down_bytes_per_s", "up_bytes_per_s"],
        {"startup_s": 0.0, "compute_w": None, "radio_w": None, "deadline_s": None},
    ),
    "federated.run": (
        ["model", "task", "allocation"],
        {
            "rounds": REQUIRED,
            "training": federated.LocalTraining(),
            "server": federated.Server(),
            "evaluation": federated.Evaluation(),
            "participation": federated.Participation(),
            "execution": federated.Execution(),
            "checkpoint": None,
            "on_round": None,
            "seed": 0,
        },
    ),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_the_signatures_are_frozen(name):
    target = hasa_opt
    for part in name.split("."):
        target = getattr(target, part)
    parameters = inspect.signature(target).parameters
    positional = [
        key
        for key, value in parameters.items()
        if value.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
    ]
    expected, keywords = SIGNATURES[name]
    assert positional == expected
    for key, default in keywords.items():
        assert parameters[key].kind is inspect.Parameter.KEYWORD_ONLY
        assert parameters[key].default == default
    # Whatever joined them later must be optional.
    for key in parameters.keys() - set(expected) - set(keywords):
        value = parameters[key]
        assert value.default is not REQUIRED or value.kind is inspect.Parameter.VAR_KEYWORD


@pytest.mark.parametrize(
    ("kind", "facts"),
    [
        (federated.History, {"server_bytes", "device_bytes", "decisions"}),
        (hasa_opt.Headroom, {"groups", "foretold", "worthwhile", "sentence"}),
        (hasa_opt.Probe, {"similarities", "reached", "utility"}),
        (Results, {"server_bytes", "device_bytes", "flops", "bytes", "memory"}),
        (hasa_opt.Study, {"by_rounds", "rounds_table", "costs_table", "allocation_table"}),
    ],
)
def test_what_groups_gain_and_cost_has_frozen_names(kind, facts):
    assert set(dir(kind)) | set(getattr(kind, "__dataclass_fields__", ())) >= facts


def test_the_facts_of_an_allocation_are_frozen():
    facts = [
        "widths",
        "choice",
        "objective",
        "bound",
        "gap",
        "termination",
        "spent",
        "price",
        "solver",
        "seconds",
    ]
    members = set(dir(hasa_opt.Allocation)) | set(hasa_opt.Allocation.__dataclass_fields__)
    assert members >= set(facts)
    assert {kind.name for kind in hasa_opt.Termination} == {
        "OPTIMAL",
        "GAP_REACHED",
        "TIME_LIMIT",
        "INTERRUPTED",
        "INFEASIBLE",
        "FAILED",
    }
    for line in hasa_opt.solvers():
        assert {"name", "available", "capabilities", "install"} <= set(dir(line))


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=module_name)
def test_the_examples_in_the_docstrings_run(path: Path) -> None:
    failed, tried = doctest.testmod(importlib.import_module(module_name(path)))
    assert failed == 0
    assert tried > 0


def test_there_are_examples_to_run() -> None:
    assert len(WITH_EXAMPLES) >= 8


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_modules_say_what_they_hold_and_hold_what_they_name(path: Path) -> None:
    module = importlib.import_module(module_name(path))
    assert module.__doc__
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public)


@pytest.mark.parametrize("path", SOURCES, ids=module_name)
def test_modules_stay_readable(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 420
