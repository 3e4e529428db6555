"""The embedded language task: docstrings of scientific packages, one package per client.

The texts are read from the source files of packages that are installed anyway, so the task needs
no download.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from functools import cache

from hasa_opt.errors import InputError
from hasa_opt.tasks.sources import python_files, sentences, take
from hasa_opt.tasks.task import Task
from hasa_opt.tasks.text import build, check_options
from hasa_opt.tasks.tokens import Tokens

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

_MIN_TEXTS = 300  # of each client, so that its test split of 15 % holds 45


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
    files = {
        client: python_files(client, module, "docstrings") for client, module in _MODULES.items()
    }
    sizes = {client: sum(path.stat().st_size for path in paths) for client, paths in files.items()}
    total = sum(sizes.values())
    seen: set[Tokens] = set()
    return {
        client: take(
            paths, sentences, max(_MIN_TEXTS, round(n_texts * sizes[client] / total)), seen
        )
        for client, paths in files.items()
    }
