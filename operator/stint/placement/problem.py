"""The waiting jobs and what there is to be had, laid out as arrays. What every solver is given.

A **column** is one way to run one job: an offering, a number of workers, and whether nodes are bought for it.
Its objective is what it costs when it starts as early as it can; starting later adds to that (`objective_at`).
Nodes are the ones that exist or are under way, followed by those that could be bought, offering by offering.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

from stint.estimate.runtime import SECONDS_PER_HOUR, hours_between
from stint.model.cluster import HOSTNAME, ZONE, Node
from stint.model.job import Job, Topology
from stint.model.market import Offering, Pool
from stint.model.plan import Reason, Rejection
from stint.model.resources import AXES, Resources
from stint.model.situation import Situation
from stint.placement.admission import Admission, Judge, seats_of_roles, with_roles
from stint.placement.columns import Columns, deadline_hours, kinds_of, possible_offerings, price_columns, rows_of
from stint.placement.neighbours import Neighbourhood, Together, looks_around, own_terms
from stint.placement.neighbours import together as together_of

_BOTH = " and "
MOST_BUYABLE_NODES = 256  # of one offering in one plan
_RISKY = 0.9  # of what being late is charged, where it depends on what comes late itself: less than being late for sure


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A running gang gives its share of a node back, by its own estimate."""

    hours: float
    node: int
    resources: Float[np.ndarray, " resource"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Pods of a gang of unlike ones that are alike."""

    count: int  # of the gang's workers: as many as there are when the rest is taken off
    need: Float[np.ndarray, " resource"]  # of one pod
    admits: Bool[np.ndarray, " node"]


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
    extended: tuple[str, ...]  # resources beyond `AXES` that some job asks for: the axis goes on with them
    admits: tuple[Bool[np.ndarray, " node"], ...]  # by job, for its workers
    parts: tuple[tuple[Part, ...], ...]  # by job: what else it consists of, by rank, after the workers; mostly nothing
    topology: tuple[Topology | None, ...]  # by job: what it asks for itself, and what its pods' affinity comes to
    # By job whose workers may not be put together in any way: the domain that they are to share, -1 where a node is in
    # none; all of one where it is only `together` that says how they share nodes.
    domain: tuple[Int[np.ndarray, " node"] | None, ...]
    together: tuple[Together | None, ...]  # by job
    preference: tuple[Float[np.ndarray, " node"] | None, ...]  # by job: what it would rather have, more is better
    neighbourhood: Neighbourhood
    pool_of_offering: Int[np.ndarray, " offering"]
    headroom: Int[np.ndarray, " pool"]  # nodes that may still be bought
    columns: Columns
    advice: Columns  # what a pool that only takes advice could add; never chosen, only told
    deadline_hours: Float[np.ndarray, " job"]
    hold_usd: Float[np.ndarray, " job"]  # what an assignment is charged for leaving the job without a place
    late_usd: Float[np.ndarray, " job"]  # for making it late where it need not be
    rejections: tuple[tuple[Rejection, ...], ...]  # by job: offerings it cannot have at all
    partly: tuple[Mapping[int, str], ...]  # by job and offering: why some of its nodes do not do

    def objective_at(self, columns: Columns, column: int, start_hours: float) -> float:
        """J of a column whose gang gets its nodes `start_hours` from now.

            J = alpha * usd_per_hour * hours until done + beta * dollars

        Lateness is part of the dollars. What `charge_usd` adds keeps what is late from being chosen while something
        in time can be had.
        """
        plain = columns.plain
        job = plain.job[column]
        wanted, deadline = self.jobs[job].objective, float(self.deadline_hours[job])
        objective = plain.objective_usd[column] + wanted.performance * wanted.usd_per_hour * start_hours
        if math.isinf(deadline):
            return objective
        at_once = plain.finish_hours[column]
        finish = at_once + start_hours
        later = max(0.0, finish - deadline) - max(0.0, at_once - deadline)
        lateness = wanted.cost * wanted.lateness_usd_per_hour * later
        waits = start_hours > 0 or plain.buys[column]
        reserve = self.situation.settings.reserve_seconds / SECONDS_PER_HOUR if waits else 0.0
        part = 1.0 if finish > deadline else _RISKY if finish + reserve > deadline else 0.0
        return objective + lateness + float(self.late_usd[job]) * part

    def charge_usd(
        self, job: Int[np.ndarray, " some"], finish_hours: Float[np.ndarray, " some"], waits: Bool[np.ndarray, " some"]
    ) -> Float[np.ndarray, " some"]:
        """What `objective_at` adds, for many: `late_usd` for a late finish, nine tenths of it for one that is late
        only if what it waits for comes late.

        Args:
            waits: for a node or a gang's end, either of which may be later than is foreseen: by
                `Settings.reserve_seconds`, as far as deadlines go.
        """
        deadline = self.deadline_hours[job]
        reserve = np.where(waits, self.situation.settings.reserve_seconds / SECONDS_PER_HOUR, 0.0)
        risky = np.where(finish_hours + reserve > deadline, _RISKY, 0.0)
        charge: Float[np.ndarray, " some"] = self.late_usd[job] * np.where(finish_hours > deadline, 1.0, risky)
        return charge

    def needs(self, job: int, pods: int) -> list[Float[np.ndarray, " resource"]]:
        """What each pod of a gang of so many asks for, by rank."""
        others = [p.need for p in self.parts[job] for _ in range(p.count)]
        return ([self.need[job]] * (pods - len(others)) + others)[:pods]

    def load(self, job: int, nodes: Sequence[int]) -> dict[int, Float[np.ndarray, " resource"]]:
        """What a gang with these nodes, by rank, takes of each."""
        if not self.parts[job]:
            return {n: count * self.need[job] for n, count in sorted(Counter(nodes).items())}
        load: dict[int, Float[np.ndarray, " resource"]] = {}
        for node, need in zip(nodes, self.needs(job, len(nodes)), strict=True):
            load[node] = load.get(node, 0.0) + need
        return dict(sorted(load.items()))

    def use(
        self, job: Int[np.ndarray, " some"], pods: Int[np.ndarray, " some"], axes: int
    ) -> Float[np.ndarray, "some resource"]:
        """What whole gangs of so many pods take, of the first axes."""
        use: Float[np.ndarray, "some resource"] = self.need[job][:, :axes] * pods[:, None]
        if any(self.parts):
            each = np.array([sum((p.count for p in parts), 0) for parts in self.parts])
            rest = np.array([sum((p.count * p.need for p in s), np.zeros(self.need.shape[1])) for s in self.parts])
            use += rest[job][:, :axes] - self.need[job][:, :axes] * each[job][:, None]
        return use

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
    existing_offering = np.array([index[n.offering] for n in nodes], dtype=np.int64)
    neighbourhood = Neighbourhood(situation)
    around = neighbourhood.matters_to
    kinds = kinds_of(jobs, around)
    judge = Judge(offerings, {p.name: p for p in pools}, nodes, existing_offering, neighbourhood)
    alone = [judge.of(job, looks_around=around(job)) for job in kinds.first]
    of_roles = [[judge.of(seat, looks_around=around(seat)) for seat in seats_of_roles(job)] for job in kinds.first]
    admissions = [with_roles(mine, job, others) for mine, job, others in zip(alone, kinds.first, of_roles, strict=True)]
    impossible, possible = possible_offerings(kinds.first, offerings, situation.rates, admissions)
    rows, more = rows_of(jobs, pools, pool_of, kinds, possible, admissions)
    real = price_columns(situation, jobs, offerings, pools, pool_of, rows, kinds)
    advice = price_columns(situation, jobs, offerings, pools, pool_of, more, kinds)
    real, too_dear = _over_budget(jobs, offerings, real)
    buyable = _buyable(jobs, offerings, pool_of, headroom, (real, advice))

    new_offering = np.repeat(np.arange(len(offerings)), buyable)
    names = sorted({n for j in kinds.first for needs in (j.per_worker, *_of_roles(j)) for n, _ in needs.extended})
    axes = len(AXES) + len(names)
    empty = np.array([o.new_node.row(names) for o in offerings], dtype=float).reshape(-1, axes)
    free = np.array([_free(n, names) for n in nodes], dtype=float).reshape(-1, axes)
    cold = np.array([pools[pool_of[o]].cold_start_seconds / SECONDS_PER_HOUR for o in new_offering], dtype=float)
    deadline = np.array([deadline_hours(j, situation) for j in jobs], dtype=float)
    worst, late = _worst(len(jobs), real), 1.0 + _worst(len(jobs), real, also=_idle_usd(real))
    releases = _releases(situation, nodes, names)

    def mask(admission: Admission) -> Bool[np.ndarray, " node"]:
        return np.concatenate([admission.nodes, np.array([o in admission.new for o in new_offering], dtype=bool)])

    masks = [mask(a) for a in alone]
    parts = [
        tuple(
            Part(count=r.replicas, need=np.array(r.per_pod.row(names)), admits=mask(a))
            for r, a in zip(job.roles, others, strict=True)
        )
        for job, others in zip(kinds.first, of_roles, strict=True)
    ]
    bought = [offerings[o] for o in new_offering]
    topologies = [_topology(j) for j in jobs]
    together = [_together(j, neighbourhood, nodes, bought) for j in jobs]
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
        need=np.array([j.per_worker.row(names) for j in jobs], dtype=float).reshape(-1, axes),
        extended=tuple(names),
        admits=tuple(masks[k] for k in kinds.of.tolist()),
        parts=tuple(parts[k] for k in kinds.of.tolist()),
        topology=tuple(topologies),
        domain=_domains(topologies, together, nodes, bought),
        together=tuple(together),
        preference=tuple(_preference(j, neighbourhood, nodes, bought) for j in jobs),
        neighbourhood=neighbourhood,
        pool_of_offering=pool_of,
        headroom=headroom,
        columns=real,
        advice=advice,
        deadline_hours=deadline,
        hold_usd=10.0 * (1.0 + 2.0 * worst) + _waiting_usd(jobs, releases),
        late_usd=late,
        partly=tuple(admissions[k].partly for k in kinds.of.tolist()),
        rejections=tuple((*impossible[k], *dear) for k, dear in zip(kinds.of.tolist(), too_dear, strict=True)),
    )


def _of_roles(job: Job) -> list[Resources]:
    return [r.per_pod for r in job.roles]


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


def _free(node: Node, names: Sequence[str]) -> tuple[float, ...]:
    pairs = zip(node.allocatable.row(names), node.used.row(names), strict=True)
    return tuple(max(0.0, have - used) for have, used in pairs)


def _from_hours(node: Node, situation: Situation) -> float:
    """When a node can take workers: now, when it is expected, or never while it is broken or cordoned."""
    if node.ready_at is not None and not node.interrupted:
        return max(0.0, hours_between(situation.now, node.ready_at))
    return 0.0 if node.usable else math.inf


def _releases(situation: Situation, nodes: Sequence[Node], names: Sequence[str]) -> tuple[Release, ...]:
    """What running gangs will give back, by their own estimates."""
    index = {n.name: i for i, n in enumerate(nodes)}
    releases = []
    for job in sorted(situation.jobs, key=lambda j: j.id):
        if job.assignment is None or job.assignment.finish is None:
            continue
        hours = max(0.0, hours_between(situation.now, job.assignment.finish))
        releases += [
            Release(hours=max(hours, 1e-3), node=index[n], resources=np.array(needs.row(names)))
            for n, needs in zip(job.assignment.nodes, job.by_rank(len(job.assignment.nodes)), strict=True)
            if n in index
        ]
    return tuple(releases)


def _topology(job: Job) -> Topology | None:
    """What all workers have to share: as the job says, and as their affinity to one another comes to.

    Several labels are one topology: nodes share it that agree in all of them.
    """
    mine = own_terms(job.constraints, job.constraints.affinity)
    if not mine:
        return job.topology
    keys = [job.topology.key] if job.topology is not None and job.topology.required else []
    keys += sorted({t.topology_key for t in mine} - set(keys))
    return Topology(key=_BOTH.join(keys), required=True)


def _values(key: str, nodes: Sequence[Node], new: Sequence[Offering]) -> list[str]:
    """A label of every node. Of nodes that could be bought only what their offering says is known, and the host."""
    values = [n.labels.get(key, f"node {n.name}" if key == HOSTNAME else "") for n in nodes]
    known = {o.id: o.labels.get(key) or (o.zone if key == ZONE else "") for o in new}
    return values + [f"new {i}" if key == HOSTNAME else known[o.id] for i, o in enumerate(new)]


def _together(job: Job, around: Neighbourhood, nodes: Sequence[Node], new: Sequence[Offering]) -> Together | None:
    if not looks_around(job):
        return None
    c = job.constraints
    keys = {HOSTNAME, *(t.topology_key for t in c.anti_affinity), *(s.topology_key for s in c.spread)}
    return together_of(job, around, {key: _values(key, nodes, new) for key in keys})


def _preference(
    job: Job, around: Neighbourhood, nodes: Sequence[Node], new: Sequence[Offering]
) -> Float[np.ndarray, " node"] | None:
    """The weights of the preferences that each node meets: they break ties between nodes of one offering."""
    if not job.constraints.preferred:
        return None
    return np.array([*around.likings(job, nodes), *([0.0] * len(new))], dtype=float)


def _domains(
    topologies: Sequence[Topology | None],
    together: Sequence[Together | None],
    nodes: Sequence[Node],
    new: Sequence[Offering],
) -> tuple[Int[np.ndarray, " node"] | None, ...]:
    """The domain of each node, by the label that a job's topology names. Jobs with the same one share one array."""
    cache: dict[str, Int[np.ndarray, " node"]] = {}
    for key in sorted({t.key for t in topologies if t is not None}):
        each = zip(*(_values(part, nodes, new) for part in key.split(_BOTH)), strict=True)
        values = ["" if "" in parts else _BOTH.join(parts) for parts in each]
        number = {value: i for i, value in enumerate(dict.fromkeys(v for v in values if v))}
        cache[key] = np.array([number.get(v, -1) for v in values], dtype=np.int64)
    one = np.zeros(len(nodes) + len(new), dtype=np.int64)
    alike = zip(topologies, together, strict=True)
    return tuple(cache[t.key] if t is not None else None if w is None else one for t, w in alike)
