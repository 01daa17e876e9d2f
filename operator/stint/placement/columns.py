"""Columns: every way to run every job, and what it costs. Laid out once for jobs that are alike."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.cost.finish import CostToFinish, FinishInputs, cost_to_finish
from stint.estimate.runtime import SECONDS_PER_HOUR, hours_between, work_hours_left
from stint.model.figure import value_of
from stint.model.job import Job
from stint.model.market import Offering, Pool
from stint.model.offering import CapacityType
from stint.model.plan import Rejection
from stint.model.resources import Resources
from stint.model.situation import Rates, Situation
from stint.placement import fit
from stint.placement.admission import Admission
from stint.placement.neighbours import most_per_node

_WHOLE_FOR_A_PART_USD = 1e-3


class PlainColumns(NamedTuple):
    """The same as Python's own numbers: to read one of an array takes several times as long."""

    job: list[int]
    offering: list[int]
    workers: list[int]
    buys: list[bool]
    per_node: list[int]
    share: list[float]
    usd_per_node_hour: list[float]
    held_hours: list[float]
    finish_hours: list[float]
    objective_usd: list[float]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Structure of arrays; `cost` has the same axis."""

    job: Int[np.ndarray, " column"]
    offering: Int[np.ndarray, " column"]
    workers: Int[np.ndarray, " column"]
    buys: Bool[np.ndarray, " column"]
    per_node: Int[np.ndarray, " column"]  # workers on an empty node
    share: Float[np.ndarray, " column"]  # of a node that one worker takes up; of unlike pods, on average
    usd_per_node_hour: Float[np.ndarray, " column"]
    held_hours: Float[np.ndarray, " column"]  # from start until the nodes are free again
    objective_usd: Float[np.ndarray, " column"]  # J, started as early as possible
    cost: CostToFinish

    @cached_property
    def plain(self) -> PlainColumns:
        """For solvers, which look at one column at a time."""
        return PlainColumns(
            job=self.job.tolist(),
            offering=self.offering.tolist(),
            workers=self.workers.tolist(),
            buys=self.buys.tolist(),
            per_node=self.per_node.tolist(),
            share=self.share.tolist(),
            usd_per_node_hour=self.usd_per_node_hour.tolist(),
            held_hours=self.held_hours.tolist(),
            finish_hours=self.cost.finish_hours.tolist(),
            objective_usd=self.objective_usd.tolist(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Columns before they have a price: indices into jobs and offerings, and how they get their nodes."""

    job: Int[np.ndarray, " row"]
    offering: Int[np.ndarray, " row"]
    workers: Int[np.ndarray, " row"]
    buys: Bool[np.ndarray, " row"]

    @classmethod
    def running(cls, offering: Sequence[int], workers: Sequence[int]) -> Rows:
        """A row a job, each on what it has: nothing is bought."""
        count = len(offering)
        return cls(
            job=np.arange(count),
            offering=np.array(offering, dtype=np.int64),
            workers=np.array(workers, dtype=np.int64),
            buys=np.zeros(count, dtype=bool),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Kinds:
    """Jobs that may use the same offerings, and are the same to them but for how much there is to do and by when."""

    first: tuple[Job, ...]  # of each kind
    of: Int[np.ndarray, " job"]


def kinds_of(jobs: Sequence[Job], around: Callable[[Job], bool] | None = None) -> Kinds:
    """Which jobs are alike in this sense.

    Args:
        around: whether the place of a job depends on pods beside it; such a one is like no other. None: none does.
    """
    number: dict[object, int] = {}
    first: list[Job] = []
    of = []
    for job in jobs:
        alone = job.id if around is not None and around(job) else ""
        alike = (
            *(job.gpu_models, frozenset(job.work.units_per_second), job.capacity_types),
            *(job.gpu_memory_gib, job.gpu_fraction, job.per_worker, job.roles, job.data, job.licences),
            *(frozenset(job.node_selector.items()), job.tolerations, job.avoid, job.refusals, job.no_new),
            *(job.constraints.node_affinity, job.constraints.volumes, alone),
        )
        kind = number.setdefault(alike, len(first))
        if kind == len(first):
            first.append(job)
        of.append(kind)
    return Kinds(first=tuple(first), of=np.array(of, dtype=np.int64))


def possible_offerings(
    kinds: Sequence[Job], offerings: Sequence[Offering], rates: Rates, admissions: Sequence[Admission]
) -> tuple[list[list[Rejection]], list[list[int]]]:
    """For each kind of job the first constraint in the way of offerings it cannot use, and those it can."""
    rejections: list[list[Rejection]] = [[] for _ in kinds]
    possible: list[list[int]] = [[] for _ in kinds]
    licences = {name for name, figure in rates.licence_usd_per_gpu_hour.items() if figure.usable}
    wrong = [fit.unusable_rate(rates) or fit.unusable(o) for o in offerings]
    for (k, job), (o, offering) in itertools.product(enumerate(kinds), enumerate(offerings)):
        no = (
            fit.why_not(job, offering)
            or admissions[k].why.get(o)
            or fit.missing_price(
                job,
                offering,
                egress_known=egress(job, offering, rates) is not None,
                licences=licences,
                wrong=wrong[o],
            )
        )
        if no is None:
            possible[k].append(o)
        else:
            rejections[k].append(Rejection(offering=offering.id, reason=no[0], message=no[1]))
    return rejections, possible


def rows_of(
    jobs: Sequence[Job],
    pools: Sequence[Pool],
    pool_of: Int[np.ndarray, " offering"],
    kinds: Kinds,
    possible: Sequence[Sequence[int]],
    admissions: Sequence[Admission],
) -> tuple[Rows, Rows]:
    """By job, offering, workers, then whether nodes are bought: what may be chosen, and what is only advised."""
    known: dict[tuple[int, ...], Int[np.ndarray, "row 3"]] = {}
    own = []
    for job, kind in zip(jobs, kinds.of.tolist(), strict=True):
        key = (kind, *widths(job))
        if key not in known:
            new = admissions[kind].new
            ways = {o: (False, True) if o in new else (False,) for o in possible[kind]}
            rows = [(o, workers, buys) for o in possible[kind] for workers in key[1:] for buys in ways[o]]
            known[key] = np.array(rows, dtype=np.int64).reshape(-1, 3)
        own.append(known[key])
    job_of = np.repeat(np.arange(len(jobs)), [len(rows) for rows in own])
    offering, workers, buys = np.concatenate([np.zeros((0, 3), dtype=np.int64), *own]).T
    advised = (buys == 1) & np.array([pools[p].advise_only for p in pool_of], dtype=bool)[offering]

    def those(are: Bool[np.ndarray, " row"]) -> Rows:
        return Rows(job=job_of[are], offering=offering[are], workers=workers[are], buys=buys[are] == 1)

    return those(~advised), those(advised)


def widths(job: Job) -> list[int]:
    """The numbers of workers worth looking at: the least, its doublings, the reference size and the most."""
    doublings = itertools.takewhile(lambda w: w < job.max_workers, (job.min_workers << k for k in itertools.count()))
    reference = {job.workers} if job.min_workers <= job.workers <= job.max_workers else set()
    return sorted({*doublings, job.max_workers} | reference)


def egress(job: Job, offering: Offering, rates: Rates) -> float | None:
    """USD per GB to bring the job's data to an offering: 0 where it lies there or is nowhere; None: unknown."""
    home = (job.data.provider, job.data.region)
    if job.data.gib == 0 or not job.data.provider or home == (offering.provider, offering.region):
        return 0.0
    for rate in rates.egress:
        if (rate.from_provider, rate.from_region) == home and (rate.to_provider, rate.to_region) == (
            offering.provider,
            offering.region,
        ):
            return rate.usd_per_gb.value if rate.usd_per_gb.usable else None
    return None


def price_columns(
    situation: Situation,
    jobs: Sequence[Job],
    offerings: Sequence[Offering],
    pools: Sequence[Pool],
    pool_of: Int[np.ndarray, " offering"],
    rows: Rows,
    kinds: Kinds | None = None,
) -> Columns:
    """Every column's cost in one vectorised call. A job that already works has no start-up before it.

    Whatever is the same for many rows is worked out once: by job, by offering, by kind of job and offering.
    """
    kinds = kinds_of(jobs) if kinds is None else kinds
    rates, workers, buys = situation.rates, rows.workers, rows.buys
    _, example, pair = np.unique(
        kinds.of[rows.job] * len(offerings) + rows.offering, return_index=True, return_inverse=True
    )
    pairs = [(jobs[rows.job[i]], offerings[rows.offering[i]]) for i in example]

    def by_job(figure: Callable[[Job], float]) -> Float[np.ndarray, " row"]:
        return np.take([float(figure(j)) for j in jobs], rows.job)

    def by_offering(figure: Callable[[Offering], float]) -> Float[np.ndarray, " row"]:
        return np.take([float(figure(o)) for o in offerings], rows.offering)

    def by_pair(figure: Callable[[Job, Offering], float]) -> Float[np.ndarray, " row"]:
        return np.take([float(figure(j, o)) for j, o in pairs], pair)

    others = by_job(lambda j: j.others)
    beside = by_pair(_share_of_roles)
    each = by_pair(_share_of_worker)
    share = np.where(others > 0, (each * (workers - others) + beside) / np.maximum(workers, 1), each)
    per_new = by_pair(lambda j, o: _on_one_node(j, o.new_node))
    per_node = np.where(buys, per_new, by_pair(lambda j, o: _on_one_node(j, o.per_node))).astype(np.int64)
    fresh = by_offering(lambda o: value_of(o.price_of_new, math.inf))
    price = np.where(buys, fresh, by_offering(lambda o: value_of(o.price_of_existing, math.inf)))
    cold = np.array([pools[p].cold_start_seconds / SECONDS_PER_HOUR for p in pool_of], dtype=float)[rows.offering]
    boot = by_job(lambda j: _boot_hours(j, situation))
    startup = boot + np.where(buys, cold, 0.0)
    spot = by_offering(lambda o: o.capacity_type is CapacityType.SPOT) == 1.0
    interruptions = by_offering(lambda o: value_of(o.interruptions_per_hour, 0.0))
    licence = by_job(lambda j: sum(value_of(rates.licence_usd_per_gpu_hour.get(n), 0.0) for n in j.licences))
    cost = cost_to_finish(
        FinishInputs(
            work_hours=_work_hours(jobs, offerings, rows),
            wait_hours=np.zeros(len(workers)),
            boot_hours=startup,
            interruptions_per_hour=np.where(spot, interruptions * np.ceil(workers / np.maximum(per_node, 1)), 0.0),
            checkpoint_every_hours=by_job(lambda j: fit.checkpoint_hours(j.checkpoint.every)),
            checkpoint_hours=by_job(lambda j: j.checkpoint.takes.total_seconds() / SECONDS_PER_HOUR),
            restart_hours=by_job(lambda j: j.checkpoint.restart.total_seconds() / SECONDS_PER_HOUR),
            billed_nodes=workers * share,
            usd_per_node_hour=price,
            watts=workers * share * by_offering(lambda o: value_of(o.watts_per_node, 0.0)),
            pue=by_offering(lambda o: value_of(o.pue, 1.0)),
            usd_per_kwh=by_offering(lambda o: value_of(o.usd_per_kwh, 0.0)),
            g_co2_per_kwh=by_offering(lambda o: value_of(o.g_co2_per_kwh, 0.0)),
            usd_per_tonne_co2=np.full(len(workers), value_of(rates.carbon_usd_per_tonne, 0.0)),
            egress_gib=by_job(lambda j: j.data.gib),
            usd_per_egress_gb=by_pair(lambda j, o: egress(j, o, rates) or 0.0),
            storage_gib=by_job(lambda j: j.data.scratch_gib),
            usd_per_storage_gb_month=by_offering(lambda o: value_of(o.usd_per_storage_gb_month, 0.0)),
            licence_usd_per_hour=licence
            * ((workers - others) * by_job(lambda j: j.per_worker.gpus) + by_job(lambda j: j.gpus(j.others))),
            labour_usd_per_hour=np.full(len(workers), value_of(rates.labour_usd_per_job_hour, 0.0)),
            hours_to_deadline=np.maximum(0.0, by_job(lambda j: deadline_hours(j, situation))),
            lateness_usd_per_hour=by_job(lambda j: j.objective.lateness_usd_per_hour),
        )
    )
    # Where paid-for GPUs make both free, a part of one is taken before a whole one.
    whole = by_pair(lambda j, o: _WHOLE_FOR_A_PART_USD * (j.gpu_fraction is not None and o.slices is None))
    alpha = by_job(lambda j: j.objective.performance * j.objective.usd_per_hour)
    beta = by_job(lambda j: j.objective.cost)
    return Columns(
        job=rows.job,
        offering=rows.offering,
        workers=workers,
        buys=buys,
        per_node=per_node,
        share=share,
        usd_per_node_hour=price,
        held_hours=startup + cost.wall_hours,
        objective_usd=alpha * cost.finish_hours + beta * cost.total_usd + whole,
        cost=cost,
    )


def _work_hours(jobs: Sequence[Job], offerings: Sequence[Offering], rows: Rows) -> Float[np.ndarray, " row"]:
    """Once for each job, model and number of workers."""
    models = {model: m for m, model in enumerate(dict.fromkeys(o.gpu_model for o in offerings))}
    model = np.array([models[o.gpu_model] for o in offerings], dtype=np.int64)[rows.offering]
    gang = (rows.job * len(models) + model) * (1 + rows.workers.max(initial=0)) + rows.workers
    _, example, same = np.unique(gang, return_index=True, return_inverse=True)
    hours = [
        work_hours_left(jobs[rows.job[i]], offerings[rows.offering[i]].gpu_model, int(rows.workers[i])) for i in example
    ]
    return np.array(hours, dtype=float)[same]


def _on_one_node(job: Job, node: Resources) -> int:
    """Pods on an empty node; one at the least, as a node may be larger than its offering says."""
    each = (job.per_worker, *(r.per_pod for r in job.roles))
    fitting = max(1, min(fit.workers_per_node(needs, node) for needs in each))
    return min(fitting, most_per_node(job) or fitting)


def _share_of_worker(job: Job, offering: Offering) -> float:
    return job.per_worker.share_of(offering.per_node)


def _share_of_roles(job: Job, offering: Offering) -> float:
    """Of a node, what all pods of other roles take together."""
    return sum(r.replicas * r.per_pod.share_of(offering.per_node) for r in job.roles)


def share_of_node(job: Job, offering: Offering, pods: int) -> float:
    """The largest part of any resource of a node that a pod takes: its fair part of the node's price.

    Of a gang of so many unlike pods, as each takes on average.
    """
    if not job.roles:
        return _share_of_worker(job, offering)
    return ((pods - job.others) * _share_of_worker(job, offering) + _share_of_roles(job, offering)) / max(pods, 1)


def _boot_hours(job: Job, situation: Situation) -> float:
    """Pods let go until they work. A job that has worked before also has to come back from its checkpoint."""
    if job.assignment is not None and job.assignment.running:
        return 0.0
    restore = job.checkpoint.restart.total_seconds() if job.work.units_done > 0 else 0.0
    return max(situation.settings.start_seconds, restore) / SECONDS_PER_HOUR


def deadline_hours(job: Job, situation: Situation) -> float:
    """From now on; inf: it has none."""
    return math.inf if job.deadline is None else hours_between(situation.now, job.deadline)
