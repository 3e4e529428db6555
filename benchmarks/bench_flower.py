"""Seconds a round: Flower's simulation engine beside the loop of this library, same weights.

    python benchmarks/bench_flower.py

Both train the docstrings task with one thread in each process; the simulation has one process for
each core. Rounds are timed from the second on, start-up is printed apart.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from functools import cache
from pathlib import Path

OFF = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "OMP_NUM_THREADS": "1",
}
ROUNDS = 8


@cache
def data():
    from hasa_opt import tasks

    return tasks.load("docstrings")


def model():
    from hasa_opt import models

    return models.fresh(models.LSTMLanguageModel(data().n_outputs), 0)


def device(partition, partitions):
    from hasa_opt.flower import Device

    return Device.of(data(), partition)


class Clock(logging.Handler):
    """Notes when each round begins."""

    def __init__(self):
        super().__init__()
        self.times = []

    def emit(self, record):
        """Note the time of a line that begins or ends a round."""
        if re.match(r"\[ROUND \d+/", record.getMessage()) or "finished in" in record.getMessage():
            self.times.append(time.perf_counter())


def simulated():
    """Start-up and seconds of each round, with the history."""
    import bench_flower  # Other processes import the app by this name.
    from flwr.serverapp import ServerApp
    from flwr.simulation import run_simulation

    from hasa_opt.flower import Settings, client_app, serve

    app, found, clock = ServerApp(), {}, Clock()
    logging.getLogger("flwr").addHandler(clock)

    @app.main()
    def main(grid, context):
        found["history"] = serve(model(), grid, Settings(clients=len(data()), rounds=ROUNDS))

    client = client_app(bench_flower.model, bench_flower.device)
    start = time.perf_counter()
    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}}
    run_simulation(app, client, len(data()), backend_config=resources)
    rounds = [after - before for before, after in zip(clock.times, clock.times[1:], strict=False)]
    return clock.times[0] - start, rounds, found["history"]


def main() -> None:
    import numpy as np
    import torch

    from hasa_opt.federated import run
    from hasa_opt.policies.subnets import read_subnets

    torch.set_num_threads(1)
    startup, rounds, history = simulated()
    times = [time.perf_counter()]
    ours = run(
        model(),
        data(),
        read_subnets(history.metadata["roster"], history.widths),
        rounds=ROUNDS,
        on_round=lambda number, row: times.append(time.perf_counter()),
    )
    same = all(torch.equal(tensor, history.weights[name]) for name, tensor in ours.weights.items())
    loop = float(np.median(np.diff(times)[1:]))
    flower = float(np.median(rounds[1:]))
    print(f"{len(data())} clients, {ROUNDS} rounds, {os.cpu_count()} cores; same weights: {same}")
    print(f"this library's loop  {loop:6.2f} s a round")
    print(f"Flower's simulation  {flower:6.2f} s a round, after {startup:.0f} s of start-up")
    print(f"ratio                {flower / loop:6.2f}  (limit 1.5)")


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in OFF.items()):
        places = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        changed = {**os.environ, **OFF, "PYTHONPATH": os.pathsep.join(places)}
        os.execvpe(sys.executable, [sys.executable, __file__], changed)
    main()
