"""What is shipped: the code once, the links in the repository, the licence, the type marker."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Names of the files in a wheel and an sdist, without the sdist's top folder."""
    target = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(target)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = target.glob("*.whl")
    (sdist,) = target.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = [PurePosixPath(name) for name in archive.getnames()]
    return {
        "wheel": zipfile.ZipFile(wheel).namelist(),
        "sdist": [str(name.relative_to(name.parts[0])) for name in names],
    }


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_code_is_shipped_once(built: dict[str, list[str]], kind: str) -> None:
    modules = Counter(
        "/".join(PurePosixPath(name).parts[-2:])
        for name in built[kind]
        if name.endswith(".py") and not name.startswith(("tests/", "benchmarks/"))
    )
    assert modules["solvers/highs.py"] == 1
    assert modules["models/supernet.py"] == 1
    assert not [name for name, count in modules.items() if count > 1]


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_type_marker_and_templates_are_shipped(built: dict[str, list[str]], kind: str) -> None:
    assert "hasa_opt/py.typed" in built[kind]
    assert "hasa_opt/study/templates/report.html.jinja" in built[kind]
    assert "hasa_opt/solving/templates/explore.html" in built[kind]


def test_licence_is_shipped(built: dict[str, list[str]]) -> None:
    assert any(name.endswith("LICENSE") for name in built["wheel"])
    assert "LICENSE" in built["sdist"]


@pytest.mark.parametrize("name", ["solvers", "models"])
def test_folders_at_the_root_are_links_into_the_package(name: str) -> None:
    link = ROOT / name
    assert link.is_symlink()
    assert link.resolve() == (ROOT / "hasa_opt" / name).resolve()
