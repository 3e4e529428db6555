"""Flower's simulation engine: ``python tests/flower_simulation.py DIRECTORY``.

Writes the histories of two runs there: all clients, and with two that fail.
"""

from __future__ import annotations

import sys
from pathlib import Path

import flower_app
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from hasa_opt.flower import Settings, serve


def simulate(client: ClientApp, output: Path) -> None:
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        own = Settings(clients=10, rounds=5, batch_size=8, output=str(output))
        serve(flower_app.model(), grid, own)

    resources = {"init_args": {"num_cpus": 2}, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(app, client, 10, backend_config=resources)


if __name__ == "__main__":
    simulate(flower_app.client, Path(sys.argv[1], "all"))
    simulate(flower_app.broken_client, Path(sys.argv[1], "failing"))
