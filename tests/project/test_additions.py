"""What a stranger adds: one of each kind, from a package of its own and as CONTRIBUTING shows it.

The package is ``tests/support/hasa_more``, installed as pip installs it. The changes of
CONTRIBUTING.md are applied to a copy of ours.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import TESTS, environment

import hasa_opt as hasa
from hasa_opt import federated, tasks
from hasa_opt.models import MODELS, fresh
from hasa_opt.policies import POLICIES, read_policy
from hasa_opt.problem import CONSTRAINTS, cost
from hasa_opt.solvers import registry
from hasa_opt.testing import check_constraint, check_policy, check_solver

ROOT = TESTS.parent
CLIENTS = "name,samples,count:a,count:b\nphone,50,50,0\nlaptop,60,20,40\n"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has installed the package."""
    target = tmp_path_factory.mktemp("installed")
    source = shutil.copytree(TESTS / "support" / "hasa_more", target / "source")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index",
         "--no-build-isolation", "--disable-pip-version-check", "--target", target / "site",
         source],
        check=True, timeout=300,
    )  # fmt: skip
    return target / "site"


@pytest.fixture
def added(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package is on the path."""
    monkeypatch.syspath_prepend(str(place))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "hasa_more"]:
        del sys.modules[name]


def command(place: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    code = "from hasa_opt.cli import main; import sys; sys.argv[0] = 'hasa-opt'; main()"
    path = environment(COLUMNS="200")
    path["PYTHONPATH"] = f"{place}:{path['PYTHONPATH']}"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        capture_output=True, text=True, env=path, cwd=folder, timeout=120,
    )  # fmt: skip


def test_nothing_is_there_before() -> None:
    assert "cheapest" not in registry.SOLVERS
    assert "Headcount" not in CONSTRAINTS


def test_a_solver(added: None) -> None:
    assert [record.name for record in hasa.solvers()][-1] == "cheapest"
    check_solver("cheapest", n_problems=40)


def test_a_constraint(added: None) -> None:
    headcount = CONSTRAINTS["Headcount"]
    check_constraint(headcount({1.0: 2}), allows=lambda problem, choice: (choice == 2).sum() >= 2)
    assert "Headcount" in registry.find_solver("highs").taken()
    assert "Headcount" not in registry.find_solver("greedy").taken()


def test_a_resource(added: None) -> None:
    table = cost.named("standby")(hasa.Clients([3, 5]), np.array([1, 2]), 2)
    assert table.costs.tolist() == [[9, 12], [15, 20]]
    assert table.full == 32


def test_a_score(added: None) -> None:
    assert hasa.scores.SCORES["missing_labels"]([[2, 0], [1, 1]]).tolist() == [0.5, 0.0]


def test_a_policy(added: None) -> None:
    assert "by_samples" in POLICIES
    check_policy("by_samples")
    assert read_policy("by_samples+personal").rule == "by_samples"


def test_a_status_rule(added: None) -> None:
    from hasa_opt.solvers.highs import TERMINATIONS

    assert TERMINATIONS["kMemoryLimit"] is hasa.Termination.INTERRUPTED
    assert TERMINATIONS["kOptimal"] is hasa.Termination.OPTIMAL


def test_a_model_a_task_and_an_average(added: None) -> None:
    task = tasks.load("coins", seed=1)
    model = fresh(MODELS["shallow"].for_data(task.train[0].inputs, task.n_outputs), seed=0)
    runs = {
        name: federated.run(
            model, task, [0.5, 1.0, 0.5], rounds=1, server=federated.Server(aggregation=name)
        )
        for name in ("selective", "damped")
    }
    start = model.state_dict()
    for name, weight in runs["damped"].weights.items():
        middle = (start[name] + runs["selective"].weights[name]) / 2
        np.testing.assert_allclose(weight.numpy(), middle.numpy(), atol=1e-6)


def test_the_command_line_knows_them(place: Path, tmp_path: Path) -> None:
    (tmp_path / "clients.csv").write_text(CLIENTS)
    listed = command(place, tmp_path, "solvers")
    assert re.search(r"cheapest +yes +every client at its cheapest option", listed.stdout)
    assert "Headcount" in listed.stdout
    scored = command(place, tmp_path, "score", "clients.csv", "--score", "missing_labels", "--json")
    assert [row["missing_labels"] for row in json.loads(scored.stdout)] == [0.5, 0.0]
    allocated = command(
        place, tmp_path, "allocate", "clients.csv", "--solver", "cheapest", "--cost", "standby",
        "--budget", "0.7",
    )  # fmt: skip
    assert allocated.returncode == 0, allocated.stderr
    head, _, *rows = [line.split() for line in allocated.stdout.splitlines() if line.strip()]
    assert head == ["client", "samples", "width", "cost"]
    assert [row[:2] for row in rows[:2]] == [["phone", "50"], ["laptop", "60"]]
    for _, samples, width, spent in rows[:2]:  # widths are twentieths: samples times 20 + 20 width
        assert int(spent.replace(",", "")) == round(int(samples) * 20 * (1 + float(width)))
    study = command(place, tmp_path, "study", "--policies", "foo")
    assert "by_samples" in study.stderr


# --------------------------------------------------------------------- changes to the package


def changes() -> dict[str, str]:
    """Kind to change, as CONTRIBUTING shows them."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    return dict(re.findall(r"\*\*(\w[^*]*)\.\*\*(?:(?!```).)*?```diff\n(.*?)```", text, re.DOTALL))


KINDS = {
    "A solver", "A constraint", "A status rule", "An aggregation", "A resource", "A score",
    "A policy", "A model", "A task", "A column",
}  # fmt: skip

CHECKS = {
    "A solver": "check_solver('cheapest', n_problems=20)",
    "A constraint": (
        "check_constraint(CONSTRAINTS['Headcount']({1.0: 2}),"
        " allows=lambda problem, choice: (choice == 2).sum() >= 2)"
    ),
    "A status rule": (
        "from hasa_opt.solvers.highs import TERMINATIONS;"
        " assert TERMINATIONS['kMemoryLimit'] is hasa.Termination.INTERRUPTED"
    ),
    "An aggregation": (
        "from hasa_opt.federated.averages import AGGREGATIONS;"
        " assert AGGREGATIONS['damped'](6.0, 2.0, 4.0, 1.0) == 2.0"
    ),
    "A resource": "assert cost.named('standby')(hasa.Clients([3]), np.array([1]), 2).full == 12",
    "A score": "assert hasa.scores.SCORES['missing_labels']([[2, 0], [1, 1]]).tolist() == [0.5, 0]",
    "A policy": "check_policy('by_samples')",
    "A model": (
        "import torch; from hasa_opt.models import MODELS, prefix;"
        " model = MODELS['shallow'].for_data(torch.ones(4, 6), 3);"
        " assert model(torch.ones(4, 6)).shape == (4, 3); assert model.sizes == {'hidden': 20}"
    ),
    "A task": (
        "from hasa_opt import tasks; task = tasks.load('coins');"
        " assert len(task) == 3; assert task.n_outputs == 2"
    ),
    "A column": (
        "problem = hasa.AllocationProblem.build(hasa.Clients([3, 4]), widths=(0.5, 1.0), budget=1,"
        " utility=hasa.utility.alpha_fair());"
        " lines = str(hasa.solve(problem, 'greedy')).splitlines();"
        " assert lines[0].split()[-1] == 'cost'; assert lines[2].split()[-1] == '6'"
    ),
}

IMPORTS = """
import numpy as np, hasa_opt as hasa
from hasa_opt.problem import CONSTRAINTS, cost
from hasa_opt.testing import check_constraint, check_policy, check_solver
assert hasa.__file__.startswith({place!r})
"""


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with all changes."""
    copy = tmp_path_factory.mktemp("changed")
    shutil.copytree(  # with what numba has compiled, without what is just being written
        ROOT / "hasa_opt", copy / "hasa_opt", ignore=shutil.ignore_patterns("*.pyc*", "*.tmp.*")
    )
    for kind, change in changes().items():
        done = subprocess.run(
            ["git", "apply", "--whitespace=error-all", "-"],
            input=change, text=True, cwd=copy, capture_output=True, env=outside_of_git(copy),
        )  # fmt: skip
        assert done.returncode == 0, f"{kind}: {done.stderr}"
    return copy


def outside_of_git(folder: Path) -> dict[str, str]:
    return environment(GIT_CEILING_DIRECTORIES=str(folder.parent))


def test_every_kind_is_shown() -> None:
    assert set(changes()) == KINDS == set(CHECKS)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_change_that_is_shown_works(changed: Path, kind: str) -> None:
    code = IMPORTS.format(place=str(changed)) + CHECKS[kind]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd=changed,
        env=environment() | {"PYTHONPATH": str(changed)}, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_change_is_one_file_and_a_line_in_a_table(kind: str) -> None:
    touched = re.findall(r"^\+\+\+ b/(\S+)$", changes()[kind], re.MULTILINE)
    assert 1 <= len(touched) <= 2
    assert all(name.startswith("hasa_opt/") for name in touched)
