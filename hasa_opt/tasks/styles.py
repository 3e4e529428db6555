"""The embedded language task of two styles: code and prose of the same packages."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from functools import cache

from hasa_opt._utils.checks import whole
from hasa_opt.tasks.sources import python_files, sentences, statements, take
from hasa_opt.tasks.task import Task
from hasa_opt.tasks.text import build
from hasa_opt.tasks.tokens import Tokens

__all__ = ["code_and_prose"]

_PACKAGES = {
    "scipy": ("scipy", 0.18),
    "scikit-learn": ("sklearn", 0.14),
    "numpy": ("numpy", 0.11),
    "networkx": ("networkx", 0.07),
}
"""Name on the package index to top-level module, and to the share of the texts in each style."""

_STYLES = {"code": statements, "prose": sentences}
_LEAST = 50  # texts, so that every client has some for each split


def code_and_prose(*, seed: int = 0, n_texts: int = 6000) -> Task:
    """Next-word prediction on code and on docstrings; four packages are two clients each.

    Clients such as ``code, numpy`` hold first lines of statements, ``prose, numpy`` first sentences
    of docstrings, as many of a package in both styles. Of scipy there are the most texts, then of
    scikit-learn, numpy and networkx. Of a text twelve words are read, without punctuation. Styles
    share a vocabulary and many of its words; a text that several clients have counts for the
    first.

    The texts depend on the installed versions, which the fingerprint records.

    Parameters
    ----------
    seed : int
        Seed of the splits; the texts do not depend on it.
    n_texts : int
        About how many texts there are in all, at least 50.

    Raises
    ------
    InputError
        If a package is not installed, or installed without its source files.
    """
    return build(
        "code_and_prose",
        _texts(whole(n_texts, "n_texts", least=_LEAST)),
        seed=seed,
        fingerprint={package: importlib.metadata.version(package) for package in _PACKAGES},
    )


@cache
def _texts(n_texts: int) -> Mapping[str, tuple[str, ...]]:
    """Texts of each client, distinct over all of them."""
    seen: set[Tokens] = set()
    files = {
        package: python_files(package, module, "code_and_prose")
        for package, (module, _) in _PACKAGES.items()
    }
    return {
        f"{style}, {package}": take(files[package], texts, round(share * n_texts), seen)
        for style, texts in _STYLES.items()
        for package, (_, share) in _PACKAGES.items()
    }
