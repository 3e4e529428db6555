"""The recipes run as they stand, in at most ten lines, and beat the best constant answer."""

from __future__ import annotations

import re
import textwrap
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hasa_opt.federated import History
from hasa_opt.models.targets import counted, known
from hasa_opt.tasks import Task

PAGE = Path(__file__).parents[2] / "docs" / "recipes.rst"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCK = r"((?:\n|   [^\n]*\n)+)"
SETUP = re.findall(rf"^\.\.\n{BLOCK}", TEXT.partition("Sources of data\n")[0], flags=re.MULTILINE)
RECIPES = {
    title: (hidden, shown)
    for title, hidden, shown in re.findall(
        rf"^([^\n]+)\n~+\n.*?^\.\.\n{BLOCK}.*?^\.\. code-block:: python\n{BLOCK}",
        TEXT,
        flags=re.MULTILINE | re.DOTALL,
    )
}
NEEDS = {"Hugging Face and flwr-datasets": ("datasets", "flwr_datasets")}


def lines(shown: str) -> list[str]:
    return [line for line in shown.splitlines() if line.strip()]


def of_constant(task: Task) -> float:
    """The metric, averaged over clients, of the constant that does best on all training targets."""
    train = torch.cat([split.targets for split in task.train])
    found = [judged(train, split.targets, task) for split in task.test]
    return float(np.mean([float(value) for value in found]))


def judged(train: Tensor, test: Tensor, task: Task) -> Tensor:
    if task.problem.loss == "mse":
        return (test - train.mean(0)).square().mean()
    if task.problem.loss == "bce_with_logits":
        return ((train.mean(0) > 0.5) == (test > 0.5)).float().mean()
    if test.is_floating_point():
        return (test.argmax(1) == train.argmax(1).mode().values).float().mean()
    likely = train[known(train)].mode().values
    return (test[counted(test)] == likely).float().mean()


def test_there_are_twelve() -> None:
    assert len(RECIPES) == 12
    assert TEXT.count("code-block::") == len(RECIPES)


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_has_ten_lines_from_data_to_table(title: str) -> None:
    _, shown = RECIPES[title]
    assert len(lines(shown)) <= 10
    assert lines(shown)[-1].strip() == "print(history)"
    assert max(map(len, lines(shown))) <= 110


@pytest.mark.slow
@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_beats_the_best_constant(
    title: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for package in NEEDS.get(title, ()):
        if find_spec(package) is None:
            pytest.skip(f"needs {package}")
    names: dict[str, Any] = {}
    for code in (*SETUP, *RECIPES[title]):
        exec(compile(textwrap.dedent(code), f"recipe {title!r}", "exec"), names)
    history: History = names["history"]
    printed = capsys.readouterr().out
    assert "mean" in printed
    assert "worst" in printed
    found, constant = float(np.nanmean(history.final_metric)), of_constant(names["task"])
    if history.higher_is_better:
        found, constant = 1 - found, 1 - constant
    assert found <= 0.7 * constant, (found, constant)
