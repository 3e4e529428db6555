"""Members by name: our own, and those of packages that are installed."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hasa_opt._utils.registry import Registry
from hasa_opt.errors import InputError, MissingExtraError


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Put a package with entry points of the group ``hasa_opt.things`` on the path."""

    made = []

    def call(package: str, points: dict[str, str], source: str = "") -> None:
        folder = tmp_path / package
        facts = folder / f"{package}-1.0.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = "\n".join(f"{name} = {target}" for name, target in points.items())
        (facts / "entry_points.txt").write_text(f"[hasa_opt.things]\n{lines}\n")
        (folder / f"{package}_module.py").write_text(source)
        made.append(f"{package}_module")
        monkeypatch.syspath_prepend(str(folder))

    yield call
    for name in made:
        sys.modules.pop(name, None)


def table() -> Registry[int]:
    return Registry("things", {"one": 1, "two": 2})


def test_it_is_a_mapping_of_what_it_was_given() -> None:
    things = table()
    assert dict(things) == {"one": 1, "two": 2}
    assert len(things) == 2
    assert "three" not in things
    with pytest.raises(KeyError):
        _ = things["three"]
    things["three"] = 3
    del things["one"]
    assert dict(things) == {"two": 2, "three": 3}


def test_a_member_of_another_package_is_imported_when_it_is_asked_for(install) -> None:
    install("extra", {"three": "extra_module:THREE"}, "THREE = 3\n")
    things = table()
    assert list(things) == ["one", "two", "three"]
    assert "three" in things
    assert len(things) == 3
    assert "extra_module" not in sys.modules
    assert things["three"] == 3
    assert "extra_module" in sys.modules
    assert things.ours == {"one": 1, "two": 2}


def test_our_own_member_is_preferred(install) -> None:
    install("extra", {"one": "extra_module:ONE"}, "ONE = 111\n")
    things = table()
    assert things["one"] == 1
    assert list(things) == ["one", "two"]
    assert len(things) == 2


def test_two_packages_with_one_name_are_told_apart_by_an_error(install) -> None:
    install("first", {"three": "first_module:X"}, "X = 3\n")
    install("second", {"three": "second_module:X"}, "X = 33\n")
    things = table()
    assert list(things) == ["one", "two", "three"]
    with pytest.raises(InputError, match=r"first and second both add 'three'.*uninstall one"):
        _ = things["three"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import no_such_module\n", "no_such_module"),
        ("", "has no attribute 'THREE'"),
        ("raise RuntimeError('out of order')\n", "out of order"),
    ],
)
def test_what_cannot_be_loaded_names_its_package(install, source: str, words: str) -> None:
    install("extra", {"three": "extra_module:THREE"}, source)
    with pytest.raises(MissingExtraError, match=f"'three' of the package extra .*{words}"):
        _ = table()["three"]
