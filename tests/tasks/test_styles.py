"""The task of code and prose, and the texts that are read from Python sources."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from hasa_opt import tasks
from hasa_opt.errors import InputError
from hasa_opt.tasks.sources import sentences, statements, take

SOURCE = '''"""A module. More of it."""

import os  # noqa


def first(x: int) -> int:
    """Return the next number, and
    no other one.

    Not this paragraph.
    """
    if x > 3:
        return os.strange(
            x + 1)
    return x  # done


class Second:
    """A class."""
    name = "a # b"
'''


def test_statements_and_sentences_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(SOURCE)
    assert sorted(statements(file)) == [
        *("class Second:", "def first(x: int) -> int:", "if x > 3:", "import os", 'name = "a'),
        *("return os.strange(", "return x"),
    ]
    assert list(sentences(file)) == [
        "A module.",
        "Return the next number, and no other one.",
        "A class.",
    ]
    (tmp_path / "broken.py").write_text("def (")
    assert list(statements(tmp_path / "broken.py")) == list(sentences(tmp_path / "broken.py")) == []


def test_texts_are_taken_once_and_need_two_words(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("x\nimport os\nIMPORT = os\nimport os\nimport re\nimport ast\n")
    seen = {("import", "re")}
    assert take([file], statements, 1, seen) == ("import os",)
    assert take([file], statements, 9, seen) == ("import ast",)


@pytest.mark.slow
def test_each_package_is_a_client_of_each_style() -> None:
    task = tasks.load("code_and_prose")
    packages = ("scipy", "scikit-learn", "numpy", "networkx")
    assert task.client_names == (
        *(f"code, {package}" for package in packages),
        *(f"prose, {package}" for package in packages),
    )
    assert task.samples.tolist() == [756, 588, 462, 294] * 2
    counts = task.counts.toarray()
    code, prose = counts[:4].sum(axis=0), counts[4:].sum(axis=0)
    words = dict(zip(task.labels, zip(code, prose, strict=True), strict=True))
    assert words["def"][0] > 20 * words["def"][1]
    assert words["the"][1] > 20 * words["the"][0]
    assert (np.minimum(code, prose) > 0).sum() > 100
    other = tasks.load("code_and_prose", seed=1)
    assert other.fingerprint["texts sha256"] == task.fingerprint["texts sha256"]
    assert other.checksum != task.checksum


def test_bad_options_and_absent_packages_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="n_texts 49 must be a whole number of at least 50"):
        tasks.load("code_and_prose", n_texts=49)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sklearn" else find_spec(name)
    )
    with pytest.raises(InputError, match=r"code_and_prose task needs scikit-learn.*pip install"):
        tasks.load("code_and_prose", n_texts=77)


def test_few_texts_fill_every_split() -> None:
    task = tasks.load("code_and_prose", n_texts=50)
    assert min(len(split) for part in (task.train, task.validation, task.test) for split in part)
