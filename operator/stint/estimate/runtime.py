"""Run time without interruptions, from the work that is left and the speed of a gang."""

from __future__ import annotations

from datetime import datetime, timedelta

from stint.model.job import Job

SECONDS_PER_HOUR = 3600.0


def units_per_hour(job: Job, gpu_model: str, workers: int) -> float:
    """Speed of `workers` workers on one GPU model, in the job's own units per hour; 0 where it is not known.

    The stated speed holds at `job.workers`. Other sizes scale by a power law in the workers without other roles,

        speed(w) = speed(w_ref) * (w / w_ref) ** scaling_exponent

    the usual summary of data-parallel scaling: 1 is perfect, and communication pulls it below.

    Source: the shape of measured throughput in A. Or, H. Zhang, M. Freedman, "Resource elasticity in distributed
    deep learning", MLSys 2020, between two sizes that lie close together.
    """
    reference = job.work.units_per_second.get(gpu_model, 0.0)
    others = job.others  # pods of other roles are as many at every size
    scale: float = (max(workers - others, 0) / max(job.workers - others, 1)) ** job.work.scaling_exponent
    return reference * scale * SECONDS_PER_HOUR


def work_hours_left(job: Job, gpu_model: str, workers: int) -> float:
    """Hours of undisturbed running that are left; inf where the speed is not known."""
    speed = units_per_hour(job, gpu_model, workers)
    left = max(0.0, job.work.units - job.work.units_done)
    return left / speed if speed > 0 else float("inf")


def units_after(job: Job, gpu_model: str, workers: int, *, hours: float) -> float:
    """Units done after running for so long from where the job stands, never more than there are."""
    done = job.work.units_done + units_per_hour(job, gpu_model, workers) * max(0.0, hours)
    return min(job.work.units, done)


def units_kept(job: Job, gpu_model: str, workers: int, *, ran_hours: float) -> float:
    """Units that survive losing the nodes after running for `ran_hours`: those of the last whole checkpoint.

    A job that never checkpoints falls back to where this run began.
    """
    every = job.checkpoint.every
    if every is None:
        return job.work.units_done
    step = every.total_seconds() / SECONDS_PER_HOUR
    return units_after(job, gpu_model, workers, hours=max(0.0, ran_hours) // step * step)


def hours_after(start: datetime, hours: float) -> datetime:
    """So many hours later; the last date there is where it would be later than that."""
    try:
        return start + timedelta(hours=hours)
    except OverflowError:
        return datetime.max.replace(tzinfo=start.tzinfo)


def hours_between(start: datetime, end: datetime) -> float:
    """Signed hours from `start` to `end`."""
    return (end - start).total_seconds() / SECONDS_PER_HOUR
