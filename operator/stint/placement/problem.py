"""The waiting jobs and what there is to be had, laid out as arrays. What every solver is given.

A **column** is one way to run one job: an offering, a number of workers, and whether nodes are bought for it.
Its objective is what it costs when it starts as early as it can; starting later adds to that (`objective_at`).
Nodes are the ones that exist or are under way, followed by those that could be bought, offering by offering.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.cost.finish import CostToFinish, FinishInputs, cost_to_finish
from stint.estimate.runtime import SECONDS_PER_HOUR, hours_between, work_hours_left
from stint.model.cluster import HOSTNAME, ZONE, Node
from stint.model.figure import value_of
from stint.model.job import Job
from stint.model.market import Offering, Pool
from stint.model.offering import CapacityType
from stint.model.plan import Reason, Rejection
from stint.model.resources import AXES
from stint.model.situation import Rates, Situation
from stint.placement import fit

MOST_BUYABLE_NODES = 256  # of one offering in one plan
_WHOLE_FOR_A_PART_USD = 1e-3
_RISKY = 0.5  # of what being late is charged, where it depends on what comes late itself


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A running gang gives its share of a node back, by its own estimate."""

    hours: float
    node: int
    resources: Float[np.ndarray, " resource"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Structure of arrays; `cost` has the same axis."""

    job: Int[np.ndarray, " column"]
    offering: Int[np.ndarray, " column"]
    workers: Int[np.ndarray, " column"]
    buys: Bool[np.ndarray, " column"]
    per_node: Int[np.ndarray, " column"]  # workers on an empty node
    share: Float[np.ndarray, " column"]  # of a node that one worker takes up
    usd_per_node_hour: Float[np.ndarray, " column"]
    held_hours: Float[np.ndarray, " column"]  # from start until the nodes are free again
    objective_usd: Float[np.ndarray, " column"]  # J, started as early as possible
    cost: CostToFinish


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One batch to be decided together."""

    situation: Situation
    jobs: tuple[Job, ...]  # in queue order
    offerings: tuple[Offering, ...]
    pools: tuple[Pool, ...]
    nodes: tuple[Node, ...]  # existing and under way; bought ones come after these
    node_offering: Int[np.ndarray, " node"]
    node_is_new: Bool[np.ndarray, " node"]
    node_from_hours: Float[np.ndarray, " node"]  # 0: now, inf: never
    node_free: Float[np.ndarray, "node resource"]  # once it is there
    releases: tuple[Release, ...]
    need: Float[np.ndarray, "job resource"]  # of one worker
    admits: tuple[Bool[np.ndarray, " node"], ...]  # by job
    domain: tuple[Int[np.ndarray, " node"] | None, ...]  # by job with a topology: -1 where the node is in none
    pool_of_offering: Int[np.ndarray, " offering"]
    headroom: Int[np.ndarray, " pool"]  # nodes that may still be bought
    columns: Columns
    advice: Columns  # what a pool that only takes advice could add; never chosen, only told
    deadline_hours: Float[np.ndarray, " job"]
    hold_usd: Float[np.ndarray, " job"]  # what an assignment is charged for leaving the job without a place
    late_usd: Float[np.ndarray, " job"]  # for making it late where it need not be
    rejections: tuple[tuple[Rejection, ...], ...]  # by job: offerings it cannot have at all

    def objective_at(self, columns: Columns, column: int, start_hours: float) -> float:
        """J of a column whose gang gets its nodes `start_hours` from now.

            J = alpha * usd_per_hour * hours until done + beta * dollars

        Lateness is part of the dollars. What `charge_usd` adds keeps what is late from being chosen while something
        in time can be had.
        """
        job = int(columns.job[column])
        wanted, deadline = self.jobs[job].objective, float(self.deadline_hours[job])
        at_once = float(columns.cost.finish_hours[column])
        finish = at_once + start_hours
        objective = float(columns.objective_usd[column]) + wanted.performance * wanted.usd_per_hour * start_hours
        if math.isinf(deadline):
            return objective
        later = max(0.0, finish - deadline) - max(0.0, at_once - deadline)
        lateness = wanted.cost * wanted.lateness_usd_per_hour * later
        waits = start_hours > 0 or bool(columns.buys[column])
        reserve = self.situation.settings.reserve_seconds / SECONDS_PER_HOUR if waits else 0.0
        part = 1.0 if finish > deadline else _RISKY if finish + reserve > deadline else 0.0
        return objective + lateness + float(self.late_usd[job]) * part

    def charge_usd(
        self, job: Int[np.ndarray, " some"], finish_hours: Float[np.ndarray, " some"], waits: Bool[np.ndarray, " some"]
    ) -> Float[np.ndarray, " some"]:
        """What `objective_at` adds, for many: `late_usd` for a late finish, half of it for one that is late only if
        what it waits for comes late.

        Args:
            waits: for a node or a gang's end, either of which may be later than is foreseen: by
                `Settings.reserve_seconds`, as far as deadlines go.
        """
        deadline = self.deadline_hours[job]
        reserve = np.where(waits, self.situation.settings.reserve_seconds / SECONDS_PER_HOUR, 0.0)
        risky = np.where(finish_hours + reserve > deadline, _RISKY, 0.0)
        charge: Float[np.ndarray, " some"] = self.late_usd[job] * np.where(finish_hours > deadline, 1.0, risky)
        return charge

    def is_late(self, columns: Columns, column: int, start_hours: float) -> bool:
        """Whether the gang would finish after its deadline."""
        finish = float(columns.cost.finish_hours[column]) + start_hours
        return bool(finish > self.deadline_hours[columns.job[column]])


def build_problem(situation: Situation, waiting: Sequence[Job]) -> Problem:
    """Lay out `waiting` (in queue order) against everything the situation offers."""
    jobs = tuple(waiting)
    offerings = tuple(sorted(situation.offerings, key=lambda o: o.id))
    pools = tuple(sorted(situation.pools, key=lambda p: p.name))
    index = {o.id: i for i, o in enumerate(offerings)}
    pool_index = {p.name: i for i, p in enumerate(pools)}
    pool_of = np.array([pool_index[o.pool] for o in offerings], dtype=np.int64)
    nodes = tuple(sorted((n for n in situation.nodes if n.offering in index), key=lambda n: (n.offering, n.name)))

    headroom = _headroom(pools, offerings, nodes)
    kinds = _kinds(jobs)
    impossible, possible = _possible(kinds.first, offerings, situation.rates)
    rows, more = _rows(jobs, offerings, pools, pool_of, kinds, possible)
    real = _price(situation, jobs, offerings, pools, pool_of, kinds, rows)
    advice = _price(situation, jobs, offerings, pools, pool_of, kinds, more)
    real, too_dear = _over_budget(jobs, offerings, real)
    buyable = _buyable(jobs, offerings, pool_of, headroom, (real, advice))

    new_offering = np.repeat(np.arange(len(offerings)), buyable)
    existing_offering = np.array([index[n.offering] for n in nodes], dtype=np.int64)
    empty = np.array([o.per_node.as_row() for o in offerings], dtype=float).reshape(-1, len(AXES))
    free = np.array([_free(n) for n in nodes], dtype=float).reshape(-1, len(AXES))
    cold = np.array([pools[pool_of[o]].cold_start_seconds / SECONDS_PER_HOUR for o in new_offering], dtype=float)
    deadline = np.array([_deadline_hours(j, situation) for j in jobs], dtype=float)
    worst, late = _worst(len(jobs), real), 1.0 + _worst(len(jobs), real, also=_idle_usd(real))
    releases = _releases(situation, nodes)
    return Problem(
        situation=situation,
        jobs=jobs,
        offerings=offerings,
        pools=pools,
        nodes=nodes,
        node_offering=np.concatenate([existing_offering, new_offering]).astype(np.int64),
        node_is_new=np.concatenate([np.zeros(len(nodes), bool), np.ones(len(new_offering), bool)]),
        node_from_hours=np.concatenate([np.array([_from_hours(n, situation) for n in nodes], dtype=float), cold]),
        node_free=np.concatenate([free, empty[new_offering]]),
        releases=releases,
        need=np.array([j.per_worker.as_row() for j in jobs], dtype=float).reshape(-1, len(AXES)),
        admits=_admits(jobs, nodes, len(new_offering)),
        domain=_domains(jobs, nodes, [offerings[o] for o in new_offering]),
        pool_of_offering=pool_of,
        headroom=headroom,
        columns=real,
        advice=advice,
        deadline_hours=deadline,
        hold_usd=10.0 * (1.0 + 2.0 * worst) + _waiting_usd(jobs, releases),
        late_usd=late,
        rejections=tuple((*impossible[k], *dear) for k, dear in zip(kinds.of.tolist(), too_dear, strict=True)),
    )


@dataclass(frozen=True, slots=True)
class Row:
    """A column before it has a price: indices into jobs and offerings, and how it gets its nodes."""

    job: int
    offering: int
    workers: int
    buys: bool
    advice: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rows:
    """The same as arrays."""

    job: Int[np.ndarray, " row"]
    offering: Int[np.ndarray, " row"]
    workers: Int[np.ndarray, " row"]
    buys: Bool[np.ndarray, " row"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kinds:
    """Jobs that may use the same offerings, and are the same to them but for how much there is to do and by when."""

    first: tuple[Job, ...]  # of each kind
    of: Int[np.ndarray, " job"]


def _kinds(jobs: Sequence[Job]) -> _Kinds:
    number: dict[object, int] = {}
    first: list[Job] = []
    of = []
    for job in jobs:
        alike = (
            *(job.gpu_models, frozenset(job.work.units_per_second), job.capacity_types),
            *(job.gpu_memory_gib, job.gpu_fraction, job.per_worker, job.data, job.licences),
            *(frozenset(job.node_selector.items()), job.tolerations),
        )
        kind = number.setdefault(alike, len(first))
        if kind == len(first):
            first.append(job)
        of.append(kind)
    return _Kinds(first=tuple(first), of=np.array(of, dtype=np.int64))


def _possible(
    kinds: Sequence[Job], offerings: Sequence[Offering], rates: Rates
) -> tuple[list[list[Rejection]], list[list[int]]]:
    """For each kind of job the first constraint in the way of offerings it cannot use, and those it can."""
    rejections: list[list[Rejection]] = [[] for _ in kinds]
    possible: list[list[int]] = [[] for _ in kinds]
    licences = {name for name, figure in rates.licence_usd_per_gpu_hour.items() if figure.usable}
    wrong = [fit.unusable_rate(rates) or fit.unusable(o) for o in offerings]
    for (k, job), (o, offering) in itertools.product(enumerate(kinds), enumerate(offerings)):
        no = fit.why_not(job, offering) or fit.missing_price(
            job,
            offering,
            egress_known=egress(job, offering, rates) is not None,
            licences=licences,
            wrong=wrong[o],
        )
        if no is None:
            possible[k].append(o)
        else:
            rejections[k].append(Rejection(offering=offering.id, reason=no[0], message=no[1]))
    return rejections, possible


def _rows(
    jobs: Sequence[Job],
    offerings: Sequence[Offering],
    pools: Sequence[Pool],
    pool_of: Int[np.ndarray, " offering"],
    kinds: _Kinds,
    possible: Sequence[Sequence[int]],
) -> tuple[_Rows, _Rows]:
    """By job, offering, workers, then whether nodes are bought: what may be chosen, and what is only advised."""
    ways = [  # who would share the GPUs of a node that is bought in parts?
        (False, True) if pools[p].scaler is not None and o.slices is None else (False,)
        for o, p in zip(offerings, pool_of, strict=True)
    ]
    known: dict[tuple[int, ...], Int[np.ndarray, "row 3"]] = {}
    own = []
    for job, kind in zip(jobs, kinds.of.tolist(), strict=True):
        key = (kind, *widths(job))
        if key not in known:
            rows = [(o, workers, buys) for o in possible[kind] for workers in key[1:] for buys in ways[o]]
            known[key] = np.array(rows, dtype=np.int64).reshape(-1, 3)
        own.append(known[key])
    job_of = np.repeat(np.arange(len(jobs)), [len(rows) for rows in own])
    offering, workers, buys = np.concatenate([np.zeros((0, 3), dtype=np.int64), *own]).T
    advised = (buys == 1) & np.array([pools[p].advise_only for p in pool_of], dtype=bool)[offering]

    def those(are: Bool[np.ndarray, " row"]) -> _Rows:
        return _Rows(job=job_of[are], offering=offering[are], workers=workers[are], buys=buys[are] == 1)

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
    rows: Sequence[Row],
) -> Columns:
    """Every column's cost in one vectorised call. A job that already works has no start-up before it."""
    arrays = _Rows(
        job=np.array([r.job for r in rows], dtype=np.int64),
        offering=np.array([r.offering for r in rows], dtype=np.int64),
        workers=np.array([r.workers for r in rows], dtype=np.int64),
        buys=np.array([r.buys for r in rows], dtype=bool),
    )
    return _price(situation, jobs, offerings, pools, pool_of, _kinds(jobs), arrays)


def _price(
    situation: Situation,
    jobs: Sequence[Job],
    offerings: Sequence[Offering],
    pools: Sequence[Pool],
    pool_of: Int[np.ndarray, " offering"],
    kinds: _Kinds,
    rows: _Rows,
) -> Columns:
    """Whatever is the same for many rows is worked out once: by job, by offering, by kind of job and offering."""
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

    share = by_pair(share_of_node)
    per_node = by_pair(lambda j, o: fit.workers_per_node(j.per_worker, o.per_node)).astype(np.int64)
    fresh = by_offering(lambda o: _marginal_price(o, buys=True))
    price = np.where(buys, fresh, by_offering(lambda o: _marginal_price(o, buys=False)))
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
            licence_usd_per_hour=licence * (workers * by_job(lambda j: j.per_worker.gpus)),
            labour_usd_per_hour=np.full(len(workers), value_of(rates.labour_usd_per_job_hour, 0.0)),
            hours_to_deadline=np.maximum(0.0, by_job(lambda j: _deadline_hours(j, situation))),
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


def _work_hours(jobs: Sequence[Job], offerings: Sequence[Offering], rows: _Rows) -> Float[np.ndarray, " row"]:
    """Once for each job, model and number of workers."""
    models = {model: m for m, model in enumerate(dict.fromkeys(o.gpu_model for o in offerings))}
    model = np.array([models[o.gpu_model] for o in offerings], dtype=np.int64)[rows.offering]
    gang = (rows.job * len(models) + model) * (1 + rows.workers.max(initial=0)) + rows.workers
    _, example, same = np.unique(gang, return_index=True, return_inverse=True)
    hours = [
        work_hours_left(jobs[rows.job[i]], offerings[rows.offering[i]].gpu_model, int(rows.workers[i])) for i in example
    ]
    return np.array(hours, dtype=float)[same]


def _marginal_price(offering: Offering, *, buys: bool) -> float:
    """Reserved capacity is paid for whether it is used or not, unless a commitment speaks of it and says otherwise."""
    if offering.capacity_type is CapacityType.RESERVED and offering.billed_usd_per_node_hour is None:
        return 0.0
    return value_of(offering.price_of_new if buys else offering.usd_per_node_hour, math.inf)


def share_of_node(job: Job, offering: Offering) -> float:
    """The largest part of any resource of a node that one worker takes: its fair part of the node's price."""
    return job.per_worker.share_of(offering.per_node)


def _boot_hours(job: Job, situation: Situation) -> float:
    """Pods let go until they work. A job that has worked before also has to come back from its checkpoint."""
    if job.assignment is not None and job.assignment.running:
        return 0.0
    restore = job.checkpoint.restart.total_seconds() if job.work.units_done > 0 else 0.0
    return max(situation.settings.start_seconds, restore) / SECONDS_PER_HOUR


def _deadline_hours(job: Job, situation: Situation) -> float:
    return math.inf if job.deadline is None else hours_between(situation.now, job.deadline)


def _over_budget(
    jobs: Sequence[Job], offerings: Sequence[Offering], columns: Columns
) -> tuple[Columns, list[list[Rejection]]]:
    """Strike out the columns that the budget cannot pay for; tell it once an offering."""
    ends = np.isfinite(columns.cost.total_usd)  # the others are of no use with any budget
    real_money = np.subtract(columns.cost.total_usd, columns.cost.lateness_usd, where=ends, out=np.zeros(len(ends)))
    left = np.array([math.inf if j.budget_usd is None else j.budget_usd - j.spent_usd for j in jobs], dtype=float)
    over = ends & ~(real_money <= left[columns.job])
    objective = np.where(over, math.inf, columns.objective_usd)
    told: list[list[Rejection]] = [[] for _ in jobs]
    pair = columns.job * len(offerings) + columns.offering  # ascending
    for p in np.unique(pair[over]).tolist():
        j, o = divmod(p, len(offerings))
        same = slice(*np.searchsorted(pair, (p, p + 1)))
        if not np.isfinite(objective[same]).any():
            least = float(real_money[same].min())
            message = f"finishing there costs {least:.2f} USD, the budget has {left[j]:.2f} USD left"
            told[j].append(Rejection(offering=offerings[o].id, reason=Reason.OVER_BUDGET, message=message))
    return replace(columns, objective_usd=objective), told


def _worst(
    jobs: int, columns: Columns, *, also: Float[np.ndarray, " column"] | float = 0.0
) -> Float[np.ndarray, " job"]:
    """The dearest finite J of each job; 0 where it has none."""
    worst = np.zeros(jobs)
    finite = np.isfinite(columns.objective_usd)
    np.maximum.at(worst, columns.job[finite], (columns.objective_usd + also)[finite])
    return worst


def _waiting_usd(jobs: Sequence[Job], releases: Sequence[Release]) -> Float[np.ndarray, " job"]:
    """What waiting costs each job until the last gang that runs has ended: it is no reason to have no place at all."""
    hours = max((r.hours for r in releases), default=0.0)
    rates = [
        j.objective.performance * j.objective.usd_per_hour + j.objective.cost * j.objective.lateness_usd_per_hour
        for j in jobs
    ]
    return hours * np.array(rates, dtype=float)


def _idle_usd(columns: Columns) -> Float[np.ndarray, " column"]:
    """What the rest of its nodes costs a gang that buys them for itself alone: the most that being in time can take."""
    nodes = -(-columns.workers // np.maximum(columns.per_node, 1))
    rest = np.where(columns.buys, nodes - columns.workers * columns.share, 0.0)
    idle: Float[np.ndarray, " column"] = np.zeros(len(columns.job))
    known = np.isfinite(columns.objective_usd) & (rest > 0)
    idle[known] = rest[known] * columns.usd_per_node_hour[known] * columns.held_hours[known]
    return idle


def _headroom(pools: Sequence[Pool], offerings: Sequence[Offering], nodes: Sequence[Node]) -> Int[np.ndarray, " pool"]:
    """Nodes that each pool may still grow by. A pool with a scaler but no limit has none, by the schema.

    A node that the provider takes counts no more: what replaces it is ordered while it is still there.
    """
    pool_of = {o.id: o.pool for o in offerings}
    have = dict.fromkeys((p.name for p in pools), 0)
    for node in nodes:
        have[pool_of[node.offering]] += not node.interrupted
    return np.array([max(0, p.max_nodes - have[p.name]) if p.scaler is not None else 0 for p in pools], dtype=np.int64)


def _buyable(
    jobs: Sequence[Job],
    offerings: Sequence[Offering],
    pool_of: Int[np.ndarray, " offering"],
    headroom: Int[np.ndarray, " pool"],
    tables: Iterable[Columns],
) -> Int[np.ndarray, " offering"]:
    """How many new nodes of each offering can be of any use in this plan."""
    most = np.zeros((len(offerings), len(jobs)), dtype=np.int64)
    for columns in tables:
        use = columns.buys & np.isfinite(columns.objective_usd)
        wanted = -(-columns.workers[use] // np.maximum(columns.per_node[use], 1))
        np.maximum.at(most, (columns.offering[use], columns.job[use]), wanted)
    useful: Int[np.ndarray, " offering"] = np.minimum(most.sum(axis=1), headroom[pool_of])
    limited: Int[np.ndarray, " offering"] = np.minimum(useful, MOST_BUYABLE_NODES)
    return limited


def _free(node: Node) -> tuple[float, ...]:
    pairs = zip(node.allocatable.as_row(), node.used.as_row(), strict=True)
    return tuple(max(0.0, have - used) for have, used in pairs)


def _from_hours(node: Node, situation: Situation) -> float:
    """When a node can take workers: now, when it is expected, or never while it is broken or cordoned."""
    if node.ready_at is not None and not node.interrupted:
        return max(0.0, hours_between(situation.now, node.ready_at))
    return 0.0 if node.usable else math.inf


def _releases(situation: Situation, nodes: Sequence[Node]) -> tuple[Release, ...]:
    """What running gangs will give back, by their own estimates."""
    index = {n.name: i for i, n in enumerate(nodes)}
    releases = []
    for job in sorted(situation.jobs, key=lambda j: j.id):
        if job.assignment is None or job.assignment.finish is None:
            continue
        hours = max(0.0, hours_between(situation.now, job.assignment.finish))
        row = np.array(job.per_worker.as_row())
        releases += [
            Release(hours=max(hours, 1e-3), node=index[n], resources=row) for n in job.assignment.nodes if n in index
        ]
    return tuple(releases)


def _admits(jobs: Sequence[Job], nodes: Sequence[Node], new: int) -> tuple[Bool[np.ndarray, " node"], ...]:
    """Which nodes each job's pods may go to. Jobs that ask for the same share one array."""
    cache: dict[object, Bool[np.ndarray, " node"]] = {}
    masks = []
    for job in jobs:
        key = (tuple(sorted(job.node_selector.items())), job.tolerations, job.avoid)
        if key not in cache:
            cache[key] = np.array([fit.node_admits(job, n) for n in nodes] + [True] * new, dtype=bool)
        masks.append(cache[key])
    return tuple(masks)


def _domains(
    jobs: Sequence[Job], nodes: Sequence[Node], new: Sequence[Offering]
) -> tuple[Int[np.ndarray, " node"] | None, ...]:
    """The domain of each node, by the label that a job's topology names. Jobs with the same one share one array.

    Of nodes that could be bought only host and zone are known.
    """
    cache: dict[str, Int[np.ndarray, " node"]] = {}
    for key in sorted({j.topology.key for j in jobs if j.topology is not None}):
        values = [n.labels.get(key, f"node {n.name}" if key == HOSTNAME else "") for n in nodes]
        values += [f"new {i}" if key == HOSTNAME else o.zone if key == ZONE else "" for i, o in enumerate(new)]
        number = {value: i for i, value in enumerate(dict.fromkeys(v for v in values if v))}
        cache[key] = np.array([number.get(v, -1) for v in values], dtype=np.int64)
    return tuple(None if j.topology is None else cache[j.topology.key] for j in jobs)
