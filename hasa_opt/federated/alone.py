"""Training one client after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hasa_opt.federated.jobs import Job, Report
from hasa_opt.federated.local import LocalTraining, local_train
from hasa_opt.federated.subnets import Subnets
from hasa_opt.models.supernet import SupernetModel


def train_alone(subnets: Subnets, jobs: Iterable[Job], settings: LocalTraining) -> Iterator[Report]:
    """Train each job's subnet by itself; nothing of a job is kept once its report is taken."""
    for job in jobs:
        yield train_job(subnets.server, subnets.cut(job), job, settings)


def train_job(
    server: SupernetModel, subnet: SupernetModel, job: Job, settings: LocalTraining
) -> Report:
    """Train the subnet of one job, in place.

    Parameters
    ----------
    server
        The supernet; its architecture alone is looked at.
    subnet
        With the weights that the client received.
    job
        What the client has to do.
    settings
        How to train.
    """
    drawn = job.drawn(server)
    result = local_train(subnet, job.split, settings, job.key, job.width, drawn)
    return Report(job, subnet.state_dict(), result)
