"""Our own exact solver."""

from hasa_opt.solvers.exact.backend import ExactBackend

__all__ = ["ExactBackend"]
