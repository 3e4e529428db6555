"""The exceptions of the library: one root, so that ``except HasaError`` catches them all."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CheckError",
    "HasaError",
    "InfeasibleError",
    "InputError",
    "MissingExtraError",
    "NoSolutionError",
    "PrecisionError",
    "SolverError",
    "SolverNotInstalledError",
    "StorageError",
    "UnknownSolverError",
    "UnsupportedConstraintError",
]


class HasaError(Exception):
    """Root of every exception that this library raises on purpose."""


class CheckError(HasaError, AssertionError):
    """A solver, constraint or policy breaks its contract; the message says where and how."""


class InputError(HasaError, ValueError):
    """A value that the caller gave breaks a rule; the message names value, rule and remedy."""


class InfeasibleError(HasaError):
    """No allocation satisfies the limits.

    Parameters
    ----------
    message : str
        Which limit fails, by how much, and the cheapest change that makes it feasible.
    limits : sequence of str, optional
        The limits that cannot hold together.
    """

    def __init__(self, message: str, *, limits: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.limits = tuple(limits)


class MissingExtraError(HasaError, ImportError):
    """The learning side was asked for where its packages are absent; gives the pip command."""


class NoSolutionError(HasaError):
    """A value of the solution was read from a result that holds none."""


class SolverError(HasaError):
    """Root of the errors about the choice of a solver."""


class UnknownSolverError(SolverError, ValueError):
    """The name belongs to no registered solver."""


class SolverNotInstalledError(SolverError, ImportError):
    """The solver is known but a package that it needs is absent."""


class PrecisionError(SolverError, ValueError):
    """The problem's integers are beyond what the solver can tell apart."""


class StorageError(HasaError, OSError):
    """The disk does not take what is written; what was stored before is intact."""


class UnsupportedConstraintError(SolverError, ValueError):
    """The solver cannot represent one of the problem's constraints."""
