"""hasa_opt on Flower: the same allocation and the same supernet, simulated or on real devices.

:func:`client_app` and :func:`server_app` make the two halves of a Flower app out of a model and of
the data that each device holds. The mathematics is that of :func:`hasa_opt.federated.run`: subnets
are cut, trained and averaged by the same functions, with random numbers that depend on (seed,
round, client) alone, so that final weights are equal bit by bit. This package only sends and
receives. It needs the extra: ``pip install 'hasa-opt[flower]'``.
"""

from __future__ import annotations

from hasa_opt.errors import MissingExtraError

try:
    import flwr  # noqa: F401
except ImportError as error:
    raise MissingExtraError("Flower is not installed: pip install 'hasa-opt[flower]'") from error

from hasa_opt.flower.client_app import client_app
from hasa_opt.flower.device import Device
from hasa_opt.flower.fleet import Fleet
from hasa_opt.flower.server_app import server_app
from hasa_opt.flower.settings import Settings
from hasa_opt.flower.strategy import SupernetStrategy

__all__ = ["Device", "Fleet", "Settings", "SupernetStrategy", "client_app", "server_app"]
