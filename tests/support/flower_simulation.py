"""Flower's simulation engine: ``python tests/flower_simulation.py DIRECTORY``.

Writes the histories of three runs there: all clients, with models that stay on the devices, and
with two clients that fail. All are served in one simulation, as its start takes longer than they
do.
"""

from __future__ import annotations

import sys
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from hasa_opt.flower import Device, Settings, client_app, serve
from support import flower_app

OWN = {"evaluate_on": "personal", "interpolation": "validation", "output_bias": "local"}


def simulate(place: Path) -> None:
    app, fails = ServerApp(), place / "two fail"

    def device(partition: int, partitions: int) -> Device:
        make = flower_app.broken if fails.exists() else flower_app.device
        return make(partition, partitions)

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        for name in ("all", "own", "failing"):
            if name == "failing":
                fails.touch()
            more = OWN if name == "own" else {}
            own = Settings(clients=10, rounds=5, batch_size=8, output=str(place / name), **more)
            serve(flower_app.model(), grid, own)

    resources = {"init_args": {"num_cpus": 2}, "client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(app, client_app(flower_app.model, device), 10, backend_config=resources)


if __name__ == "__main__":
    simulate(Path(sys.argv[1]).resolve())
