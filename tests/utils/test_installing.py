"""What errors say about an installation: each command is run, from an empty folder."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module, metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import hasa_opt as hasa
from hasa_opt._utils.installing import needing, pip_extra
from hasa_opt.errors import MissingExtraError

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
STATED = [*PROJECT["dependencies"], *(text for texts in EXTRAS.values() for text in texts)]
NEEDED = [Requirement(text) for text in STATED]
OFFLINE = ["--dry-run", "--no-deps", "--no-index", "--no-build-isolation", "--ignore-installed"]

ABSENT = """
import importlib.abc, json, sys
import hasa_opt as hasa
from hasa_opt import flower, forecast
from hasa_opt.cli.study import require_learning_side
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ("torch", "flwr"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
tries = {
    "hasa.models": lambda: hasa.models,
    "hasa.Study": lambda: hasa.Study,
    "hasa.probe": lambda: hasa.probe(None, None, (0.5, 1.0), rounds=1, seed=0),
    "hasa-opt study": require_learning_side,
    "flower": lambda: flower.serve,
}
said = {}
for name, attempt in tries.items():
    try:
        attempt()
    except hasa.HasaError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


class Installed:
    """A distribution that an installer took from somewhere."""

    def __init__(self, origin: dict[str, object] | None) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.origin is None else json.dumps(self.origin)


def from_(monkeypatch: pytest.MonkeyPatch, origin: dict[str, object] | None) -> str:
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(origin))
    return pip_extra("fl")


def run_offline(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Let pip resolve a remedy without a network; it installs nothing.

    What is editable is built like what is not: the former needs a package more.
    """
    pip, install, *arguments = shlex.split(command)
    assert (pip, install) == ("pip", "install")
    wanted = [argument for argument in arguments if argument != "--editable"]
    words = [sys.executable, "-m", "pip", "install", *OFFLINE, *wanted]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


def test_an_extra_comes_from_where_the_package_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    local = {"url": clone.as_uri(), "dir_info": {}}
    assert from_(monkeypatch, local) == f"pip install '{clone}[fl]'"
    local["dir_info"] = {"editable": True}
    assert from_(monkeypatch, local) == f"pip install --editable '{clone}[fl]'"
    remote = {"url": "https://host/x.git", "vcs_info": {"vcs": "git", "commit_id": "12ab"}}
    assert from_(monkeypatch, remote) == "pip install 'hasa-opt[fl] @ git+https://host/x.git@12ab'"
    wheel = {"url": "https://host/hasa_opt-1.whl", "archive_info": {}}
    assert from_(monkeypatch, wheel) == "pip install 'hasa-opt[fl] @ https://host/hasa_opt-1.whl'"
    assert from_(monkeypatch, None) == "pip install 'hasa-opt[fl]'"


def test_a_clone_that_is_gone_or_unknown_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"url": (tmp_path / "gone").as_uri(), "dir_info": {}}
    assert from_(monkeypatch, gone) == "in a clone of hasa_opt, pip install '.[fl]'"

    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    assert pip_extra("fl") == "in a clone of hasa_opt, pip install '.[fl]'"


def test_only_absent_modules_become_a_remedy() -> None:
    said = "^a probe needs no_such_thing, not installed here: pip install no_such_thing$"
    with pytest.raises(MissingExtraError, match=said), needing("a probe"):
        import_module("no_such_thing")
    with pytest.raises(ImportError, match="cannot import name"), needing("a probe"):
        from json import no_such_name  # noqa: F401


@pytest.mark.slow
def test_remedies_of_absent_extras_can_be_run_from_an_empty_folder(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", ABSENT], capture_output=True, text=True, check=True)
    said = json.loads(ran.stdout)
    assert len(said) == ABSENT.count("lambda") + 1
    commands = {message.partition("not installed here: ")[2] for message in said.values()}
    named = {re.search(r"\[(\w+)\]", command)[1] for command in commands}
    assert named == {"fl", "flower"}
    for command in commands:
        ended = run_offline(command, tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert "Would install hasa" in ended.stdout
        assert "does not provide the extra" not in ended.stdout + ended.stderr


@pytest.mark.slow
def test_no_index_has_this_package(tmp_path: Path) -> None:
    assert run_offline("pip install 'hasa-opt[fl]'", tmp_path).returncode != 0


def test_remedies_of_solvers_name_what_the_project_needs() -> None:
    for record in hasa.solvers():
        pip, install, *texts = shlex.split(record.install)
        assert (pip, install) == ("pip", "install")
        for text in texts:
            wanted = Requirement(text)
            stated = next(own for own in NEEDED if own.name == wanted.name)
            highest = [str(bound) for bound in stated.specifier if bound.operator == "<"]
            assert [str(bound) for bound in wanted.specifier] == highest


def test_one_module_has_the_words_of_installing() -> None:
    found = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "hasa_opt").rglob("*.py")
        if "pip install" in path.read_text(encoding="utf-8")
    ]
    assert found == ["hasa_opt/_utils/installing.py"]
