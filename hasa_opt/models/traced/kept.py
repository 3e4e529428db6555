"""Kept traces: what was found of a module, in a file, for the next process.

A file holds no code of the module. It is read only where everything that the trace depends on is
still the same, as far as that can be told: the module but for its weights, the files of the user's
own code that are loaded, the versions of the libraries, and the example's shapes.
"""

from __future__ import annotations

import hashlib
import pickle
import platform
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import FunctionType
from typing import Any

import cloudpickle
import torch
from torch import Tensor, nn

from hasa_opt._utils.files import path_of, writing
from hasa_opt.models.inputs import Inputs, kind
from hasa_opt.models.states import as_array

__all__ = ["fingerprint", "recall", "store"]


def fingerprint(module: nn.Module, example: Inputs, keep: Sequence[str]) -> str:
    """Digest of all that a trace depends on; another one where any of it is not the same.

    Parameters
    ----------
    module : torch.nn.Module
    example : Inputs
        Its values do not matter.
    keep : sequence of str
    """
    libraries = {type(part).__module__.partition(".")[0] for part in module.modules()}
    versions = [
        (name, getattr(sys.modules.get(name), "__version__", ""))
        for name in sorted(libraries | {"torch", __name__.partition(".")[0]})
    ]
    parts = [platform.python_version(), versions, torch.get_default_dtype(), list(keep)]
    digest = hashlib.sha256(repr([*parts, kind(example), str(module)]).encode())
    for part in _described(module, {}):
        digest.update(len(part).to_bytes(8, "little") + part)
    for file in sorted(set(_own_files())):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _described(value: Any, seen: dict[int, int]) -> Iterator[bytes]:
    """Describe an object in the same bytes in every process, but for the values of parameters.

    Sets are sorted, and hashes left out: they are others in each process. Code that is in no file
    is taken as it is.
    """
    if isinstance(value, (str, bytes, int, float, complex, bool, type(None), torch.dtype)):
        yield repr(value).encode()
        return
    if id(value) in seen:
        yield f"again {seen[id(value)]}".encode()
        return
    seen[id(value)] = len(seen)
    if isinstance(value, Tensor):
        yield f"{value.dtype} {tuple(value.shape)} {value.requires_grad}".encode()
        yield b"" if isinstance(value, nn.Parameter) else as_array(value).tobytes()
    elif isinstance(value, Mapping):
        for name, part in value.items():
            if not str(name).endswith("_hash"):
                yield from _described(name, seen)
                yield from _described(part, seen)
    elif isinstance(value, (set, frozenset)):
        yield repr(sorted(map(repr, value))).encode()
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _described(part, seen)
    elif hasattr(value, "__dict__") and not isinstance(value, (type, FunctionType)):
        yield from _described(type(value), seen)
        yield from _described(vars(value), seen)
    else:
        yield cloudpickle.dumps(value)


def _own_files() -> Iterator[Path]:
    """List the files of code that are loaded and belong to no installed library."""
    paths = sysconfig.get_paths()
    libraries = tuple(str(Path(paths[name]).resolve()) for name in ("stdlib", "purelib", "platlib"))
    for loaded in list(sys.modules.values()):
        name = getattr(loaded, "__file__", None)
        if isinstance(name, str) and name.endswith(".py"):
            path = Path(name).resolve()
            if not str(path).startswith(libraries) and path.is_file():
                yield path


def store(file: str | PathLike[str], key: str, held: object) -> None:
    """Write what was found.

    Parameters
    ----------
    file : path
    key : str
        Fingerprint of what it was found of.
    held : object
    """
    with writing(file, "wb") as stream:
        pickle.dump((key, held), stream)


def recall(file: str | PathLike[str], key: str) -> Any | None:
    """Read what was found of the same; None where there is no such file, or of something else.

    The file is one that the caller names, of this library's own making: like every pickle it is to
    be trusted as code is.

    Parameters
    ----------
    file : path
    key : str
    """
    path = path_of(file)
    if not path.is_file():
        return None
    try:
        with path.open("rb") as stream:
            found, held = pickle.load(stream)
    except (pickle.UnpicklingError, AttributeError, EOFError, ImportError, ValueError, TypeError):
        return None
    return held if found == key else None
