"""hasa_opt on Flower: the same allocation and the same supernet, simulated or on real devices.

:func:`client_app` and :func:`server_app` make the two halves of a Flower app out of a model and of
the data that each device holds. The mathematics is that of :func:`hasa_opt.federated.run`: subnets
are cut, trained and averaged by the same functions, with random numbers that depend on (seed,
round, client) alone, so that final weights are equal bit by bit. This package only sends and
receives. It needs the extra ``flower``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hasa_opt._utils.installing import needing

if TYPE_CHECKING:
    from hasa_opt.flower.client import Device, client_app
    from hasa_opt.flower.fleet import Fleet
    from hasa_opt.flower.roster import Roster
    from hasa_opt.flower.server import SupernetStrategy, serve, server_app
    from hasa_opt.flower.settings import Settings

__all__ = [
    "Device",
    "Fleet",
    "Roster",
    "Settings",
    "SupernetStrategy",
    "client_app",
    "serve",
    "server_app",
]

# A device starts a process for each message: it does not import the server's half.
_PLACES = {
    "Device": "client",
    "Fleet": "fleet",
    "Roster": "roster",
    "Settings": "settings",
    "SupernetStrategy": "server",
    "client_app": "client",
    "serve": "server",
    "server_app": "server",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needing("hasa_opt.flower", extra="flower"):
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
