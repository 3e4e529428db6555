"""The embedded language task: docstrings of scientific packages, one package per client.

The texts are read from the source files of packages that are installed anyway, so the task needs
no download. No package is imported, no text is copied into this one.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import sysconfig
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from hasa_opt._utils.installing import not_installed, pip
from hasa_opt.errors import InputError
from hasa_opt.tasks.task import Task
from hasa_opt.tasks.text import build, check_options
from hasa_opt.tasks.tokens import tokenize

__all__ = ["docstrings"]

_MODULES = {
    "matplotlib": "matplotlib",
    "networkx": "networkx",
    "numpy": "numpy",
    "python": None,
    "scikit-learn": "sklearn",
    "scipy": "scipy",
    "torch": "torch",
}
"""Client name, which is the name on the package index, to top-level module; None: stdlib."""

_SKIPPED = frozenset({"site-packages", "dist-packages", "test", "tests", "testing", "idlelib"})
_MIN_TEXTS = 300  # of each client, so that its test split of 15 % holds 45
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def docstrings(
    *, seed: int = 0, n_texts: int = 6500, min_count: int = 3, max_tokens: int = 12
) -> Task:
    """Next-word prediction on the first sentences of docstrings; seven packages as clients.

    A client's share of the texts follows the size of its package's Python sources, with at least
    300 texts each. Files are taken in a fixed pseudo-random order (the checksum of their path)
    until the share is reached; test folders are left out. A sentence that several packages use
    counts for the first in alphabetical order.

    The texts depend on the installed versions, which the fingerprint records.

    Parameters
    ----------
    seed : int
        Seed of the splits; the texts do not depend on it.
    n_texts : int
        About how many texts there are in all.
    min_count, max_tokens : int
        As in :func:`hasa_opt.tasks.text.build`.

    Raises
    ------
    InputError
        If a package is not installed, or installed without its source files.
    """
    check_options(min_count, max_tokens)
    if n_texts < 1:
        raise InputError(f"n_texts is {n_texts}: it must be at least 1")
    return build(
        "docstrings",
        _texts(n_texts),
        seed=seed,
        min_count=min_count,
        max_tokens=max_tokens,
        fingerprint=_versions(),
    )


def _versions() -> dict[str, str]:
    packages = {
        client: importlib.metadata.version(client)
        for client, module in _MODULES.items()
        if module is not None
    }
    return {"python": platform.python_version(), **packages}


@cache
def _texts(n_texts: int) -> Mapping[str, tuple[str, ...]]:
    """First sentences of each client, distinct over all of them."""
    folders = {client: _folder(client, module) for client, module in _MODULES.items()}
    files = {client: _files(client, folder) for client, folder in folders.items()}
    sizes = {client: sum(path.stat().st_size for path in paths) for client, paths in files.items()}
    total = sum(sizes.values())
    seen: set[tuple[str, ...]] = set()
    with _collector_paused():
        return {
            client: _take(paths, max(_MIN_TEXTS, round(n_texts * sizes[client] / total)), seen)
            for client, paths in files.items()
        }


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Pause the collector of reference cycles: syntax trees hold none, and parse twice as fast."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _folder(client: str, module: str | None) -> Path:
    if module is None:
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise InputError(not_installed("the docstrings task", client, pip(client)))
    return Path(spec.origin).parent


def _files(client: str, folder: Path) -> list[Path]:
    """Source files without tests, in an order that mixes the subpackages."""
    kept: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = (name for name in folders if name not in _SKIPPED)
        kept += (Path(parent, name) for name in names if name.endswith(".py"))
    if not kept:
        raise InputError(
            f"the docstrings task found no source files of {client!r} in {folder}: "
            "install the package with its .py files"
        )
    return sorted(
        kept, key=lambda path: hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest()
    )


def _take(files: list[Path], wanted: int, seen: set[tuple[str, ...]]) -> tuple[str, ...]:
    taken: list[str] = []
    for file in files:
        for sentence in _sentences(file):
            tokens = tokenize(sentence)
            if len(tokens) > 1 and tokens not in seen:
                seen.add(tokens)
                taken.append(sentence)
                if len(taken) == wanted:
                    return tuple(taken)
    return tuple(taken)


def _sentences(file: Path) -> Iterator[str]:
    """First sentence of each docstring of a file; a file that does not parse has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in _documented(tree):
        paragraph = (ast.get_docstring(node) or "").split("\n\n")[0]
        yield _SENTENCE_END.split(" ".join(paragraph.split()))[0]


def _documented(node: ast.Module | ast.ClassDef) -> Iterator[_Documented]:
    """Yield a module or class, its functions and, in turn, its classes; no local functions."""
    yield node
    for child in node.body:
        if isinstance(child, ast.ClassDef):
            yield from _documented(child)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
