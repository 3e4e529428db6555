"""Federated training of a supernet across clients that train subnets of different widths.

:func:`run` trains the clients of a round by one of the :data:`ENGINES`:

``"sequential"``
    One client after another: the reference.
``"batched"``
    Clients whose subnets have equal sizes train together, as one stack of weights. A client that
    has no batch left is left as it is, its optimizer included. Sample order and dropout come from
    (seed, round, client) alone and are those of the reference, so that the results differ by
    rounding only. Each kind of model is first tried on two clients: one whose samples, or whose
    padding, have an influence on each other (BatchNorm, reading backwards) is trained one client
    after another, and so is a client that has no equal. ``Report.method`` says how each was
    trained, and ``Report.reason`` why alone; a history counts the reasons in its metadata, under
    "trained alone".
``"auto"``
    Together where that is faster: on a CPU not for large steps, which keep it busy anyway, and
    only while three clients or more are at work in the average step. The jobs alone decide, so
    that a run can be repeated.

At most 256 jobs, or 256 MB of samples and weights, are held at a time. On sequences the output
layer is computed only where there is a target.
"""

from __future__ import annotations

from hasa_opt.federated.aggregation import aggregate
from hasa_opt.federated.allocating import Allocator
from hasa_opt.federated.availability import Availability
from hasa_opt.federated.batch_norm import estimate_statistics
from hasa_opt.federated.engines import ENGINES
from hasa_opt.federated.evaluation import Metrics, evaluate
from hasa_opt.federated.events import Decision, Event
from hasa_opt.federated.execution import Execution
from hasa_opt.federated.history import History
from hasa_opt.federated.jobs import Job, LocalResult, Report, Update
from hasa_opt.federated.local import local_train
from hasa_opt.federated.loop import run
from hasa_opt.federated.menu import round_menu
from hasa_opt.federated.participation import Faults, Participation
from hasa_opt.federated.schedules import CosineDecay, StepDecay
from hasa_opt.federated.seen import Seen
from hasa_opt.federated.settings import Checkpoint, Evaluation, LocalTraining, Server
from hasa_opt.federated.units import DRAWS, SCHEMES, MirroredWidths
from hasa_opt.policies.subnets import Subnets

__all__ = [
    "DRAWS",
    "ENGINES",
    "SCHEMES",
    "Allocator",
    "Availability",
    "Checkpoint",
    "CosineDecay",
    "Decision",
    "Evaluation",
    "Event",
    "Execution",
    "Faults",
    "History",
    "Job",
    "LocalResult",
    "LocalTraining",
    "Metrics",
    "MirroredWidths",
    "Participation",
    "Report",
    "Seen",
    "Server",
    "StepDecay",
    "Subnets",
    "Update",
    "aggregate",
    "estimate_statistics",
    "evaluate",
    "local_train",
    "round_menu",
    "run",
]
