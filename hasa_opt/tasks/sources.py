"""Texts from the Python sources of installed packages: sentences of docstrings, lines of code.

No package is imported, no text is copied into this one.
"""

from __future__ import annotations

import ast
import gc
import hashlib
import importlib.util
import os
import re
import sysconfig
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hasa_opt._utils.installing import not_installed, pip
from hasa_opt.errors import InputError
from hasa_opt.tasks.tokens import Tokens, tokenize

__all__ = ["python_files", "sentences", "statements", "take"]

_SKIPPED = frozenset({"site-packages", "dist-packages", "test", "tests", "testing", "idlelib"})
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def python_files(package: str, module: str | None, task: str) -> list[Path]:
    """Source files of a package without tests, in an order that mixes the subpackages.

    Parameters
    ----------
    package : str
        Name on the package index.
    module : str, optional
        Top-level module; None: the standard library.
    task : str
        Name of the task that needs the package.

    Raises
    ------
    InputError
        If the package is not installed, or installed without its source files.
    """
    folder = _folder(package, module, task)
    kept: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = (name for name in folders if name not in _SKIPPED)
        kept += (Path(parent, name) for name in names if name.endswith(".py"))
    if not kept:
        raise InputError(
            f"the {task} task found no source files of {package!r} in {folder}: "
            "install the package with its .py files"
        )
    return sorted(
        kept, key=lambda path: hashlib.sha256(path.relative_to(folder).as_posix().encode()).digest()
    )


def take(
    files: Sequence[Path], texts: Callable[[Path], Iterator[str]], wanted: int, seen: set[Tokens]
) -> tuple[str, ...]:
    """Take so many texts of two words or more that were not seen before, or as many as there are.

    Parameters
    ----------
    files : paths
    texts : function
        Texts of a file, such as :func:`sentences`.
    wanted : int
    seen : set of tokens
        Joined by the texts that are taken.
    """
    taken: list[str] = []
    with _collector_paused():
        for text in (text for file in files for text in texts(file)):
            tokens = tokenize(text)
            if len(tokens) > 1 and tokens not in seen:
                seen.add(tokens)
                taken.append(text)
                if len(taken) == wanted:
                    break
    return tuple(taken)


def sentences(file: Path) -> Iterator[str]:
    """First sentence of each docstring of a file; a file that does not parse has none."""
    tree, _ = _parsed(file)
    for node in _documented(tree):
        if text := ast.get_docstring(node):
            paragraph = text.split("\n\n")[0]
            yield _SENTENCE_END.split(" ".join(paragraph.split()))[0]


def statements(file: Path) -> Iterator[str]:
    """First line of each statement of a file without comments; docstrings are none."""
    tree, lines = _parsed(file)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not _is_text(node):
            yield lines[node.lineno - 1].partition(" #")[0].strip()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _parsed(file: Path) -> tuple[ast.Module, list[str]]:
    """Tree and lines of a file; empty if it does not parse."""
    content = file.read_bytes()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(content), content.decode(errors="replace").splitlines()
    except (SyntaxError, ValueError):
        return ast.Module([], []), []


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


def _folder(package: str, module: str | None, task: str) -> Path:
    if module is None:
        return Path(sysconfig.get_path("stdlib"))
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise InputError(not_installed(f"the {task} task", package, pip(package)))
    return Path(spec.origin).parent


def _documented(node: ast.Module | ast.ClassDef) -> Iterator[_Documented]:
    """Yield a module or class, its functions and, in turn, its classes; no local functions."""
    yield node
    for child in node.body:
        if isinstance(child, ast.ClassDef):
            yield from _documented(child)
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
