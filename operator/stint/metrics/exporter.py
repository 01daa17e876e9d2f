"""Our metrics. Base units, `_total` on counters only, no series per pod; series per job for the dearest jobs only."""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from stint.api.ledger import COMPONENTS, USES, Line
from stint.autoscale.breaker import unused_usd_per_hour
from stint.estimate.runtime import hours_between
from stint.lifecycle import phases
from stint.model.cluster import Node, Utilisation
from stint.model.figure import Confidence, value_of
from stint.model.job import ENDED, Job, JobId, NodeName, Phase, split_job_id
from stint.model.plan import Hold, Placement, Plan, Requeue, Resize
from stint.model.situation import Situation

MOST_JOBS = 500  # with series of their own
MOST_FEEDS = 64
NEXT_BEST = "next-best"
JOULES_PER_KWH = 3.6e6
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WHERE = ("pool", "gpu_model", "capacity_type")
_JOB = ("namespace", "job")
_FEED = ("source",)
_PHASES = tuple(p for p in Phase if p not in ENDED | {Phase.INVALID})


class Fallback(StrEnum):
    """What decides where a solver did not."""

    GREEDY = "greedy"
    SPARING = "without-culprits"  # greedy, without the jobs for which deciding fails
    AS_IS = "leave-as-is"  # nobody: no gang and no pool is touched
    THREAD = "thread"  # of the operator's own process, because no other one can be started


class Failure(StrEnum):
    """Why."""

    RAISED = "raised"
    OVERRAN = "overran"
    UNSOUND = "unsound"  # the verifier refused the answer
    DIED = "died"  # its process was killed, or ran out of memory
    NOT_STARTED = "not-started"


class KeptElsewhere(Counter):
    """A counter that somebody else keeps; it is copied here before each scrape."""

    def set(self, total: float) -> None:
        """What it has come to."""
        self._value.set(total)


class _Decision(NamedTuple):
    about: str  # a job, or a pool and its size
    action: str
    reason: str


class Metrics:
    """All of them, in a registry of their own."""

    def __init__(self, version: str = "") -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # process-wide; nobody asks when a counter began
        self.registry = r = CollectorRegistry()
        Gauge("stint_build_info", "Which version runs", ["version"], registry=r).labels(version).set(1)
        self.jobs = Gauge("stint_jobs", "Jobs that have not ended", ["phase"], registry=r)
        self.held = Gauge("stint_jobs_held", "Jobs that wait, by why", ["reason"], registry=r)
        self.job_spent = Gauge("stint_job_spent_dollars", "Spent so far", _JOB, registry=r)
        self.job_estimate = Gauge("stint_job_estimated_cost_dollars", "From the beginning to the end", _JOB, registry=r)
        self.job_rate = Gauge("stint_job_dollars_per_hour", "What a placed job costs an hour", _JOB, registry=r)
        self.job_slack = Gauge(
            "stint_job_deadline_slack_seconds", "From the estimated finish to the deadline", _JOB, registry=r
        )
        self.job_util = Gauge("stint_job_gpu_utilisation_ratio", "Mean over its GPUs", _JOB, registry=r)
        self.job_watts = Gauge("stint_job_power_watts", "All its GPUs together", _JOB, registry=r)
        self.job_idle = Gauge("stint_job_idle_gpus", "GPUs of a running job that do nothing", _JOB, registry=r)
        self.job_processless = Gauge(
            "stint_job_processless_gpus", "GPUs of a running job that no process has opened", _JOB, registry=r
        )
        self.job_work = Gauge("stint_job_tensor_active_ratio", "Mean use of its tensor cores", _JOB, registry=r)
        self.job_idle_rate = Gauge("stint_job_idle_dollars_per_hour", "What those GPUs cost an hour", _JOB, registry=r)
        self.spent_total = Counter("stint_spent_dollars_total", "Booked", ["namespace", *_WHERE, "use"], registry=r)
        self.components_total = Counter(
            "stint_spent_component_dollars_total", "The same dollars, by what they were for", ["component"], registry=r
        )
        self.gpu_seconds = Counter("stint_gpu_seconds_total", "Booked", ["namespace", *_WHERE, "use"], registry=r)
        self.joules = Counter("stint_energy_joules_total", "At the meter", ["namespace", *_WHERE], registry=r)
        self.grams = Counter("stint_emissions_grams_total", "CO2-equivalent", ["namespace", *_WHERE], registry=r)
        self.baseline_total = Counter(
            "stint_baseline_dollars_total",
            "What the work that was done costs with the default scheduler, on demand",
            ["namespace"],
            registry=r,
        )
        self.rate = Gauge("stint_running_dollars_per_hour", "What placed jobs cost an hour", _WHERE, registry=r)
        self.pool_nodes = Gauge("stint_pool_nodes", "Nodes", ["pool", "state"], registry=r)
        self.pool_gpus = Gauge("stint_pool_gpus", "GPUs of usable nodes", ["pool", "gpu_model", "state"], registry=r)
        self.node_suspect = Gauge(
            "stint_node_suspect",
            "1 for a node on which several jobs could not start within an hour",
            ["node"],
            registry=r,
        )
        self.unused = Gauge(
            "stint_unused_usd_per_hour", "Price of nodes that Stint bought and that are empty or on order", registry=r
        )
        self.unused_paid = Gauge(
            "stint_unused_paid_dollars_per_hour",
            "Price of bought nodes that no gang has been on, which the jobs that they were bought for pay",
            ["pool"],
            registry=r,
        )
        self.stopped = Gauge(
            "stint_scale_up_stopped",
            "1 while no node is ordered as scaleUp.maxUnusedUsdPerHour would be exceeded",
            registry=r,
        )
        self.price = Gauge("stint_pool_price_dollars_per_gpu_hour", "Price", [*_WHERE, "source"], registry=r)
        self.price_age = Gauge("stint_price_age_seconds", "Age of a pool's oldest price", ["pool"], registry=r)
        self.decide_s = Histogram("stint_decide_duration_seconds", "Deciding", registry=r, buckets=_BUCKETS)
        self.cycle_s = Histogram("stint_cycle_duration_seconds", "A whole cycle", registry=r, buckets=_BUCKETS)
        self.gap = Gauge(
            "stint_plan_gap_ratio", "Cost of the last plan that placed a job over its lower bound", registry=r
        )
        self.plan_cost = Gauge(
            "stint_plan_cost_dollars", "J of the jobs that the last plan placed, and what it bought in vain", registry=r
        )
        self.plan_bound = Gauge("stint_plan_bound_dollars", "No plan for those jobs can be cheaper", registry=r)
        self.plans = Counter(
            "stint_plans_total",
            "Plans, about everybody or about those alone who came since the last of those",
            ["about"],
            registry=r,
        )
        self.regret = Gauge(
            "stint_plan_regret_dollars",
            "What those who came since the last plan about everybody cost beyond what its prices promised",
            registry=r,
        )
        self.fallbacks = Counter(
            "stint_plan_fallbacks_total",
            "Plans that something simpler had to make, by what did and what failed before it",
            ["step", "reason"],
            registry=r,
        )
        self.decisions = Counter(
            "stint_decisions_total", "Decisions that differ from the last cycle's", ["action", "reason"], registry=r
        )
        self.rollbacks = Counter("stint_gang_rollbacks_total", "Gangs taken back", ["reason"], registry=r)
        self.unsound = Counter("stint_unsound_plans_total", "Answers that the verifier refused", registry=r)
        self.surprises = Counter(
            "stint_unforeseen_errors_total", "Errors in cycles that nobody foresaw: mistakes of Stint's", registry=r
        )
        self.saved = Counter("stint_saved_dollars_total", "Estimated savings of placements", ["baseline"], registry=r)
        self.extra = Counter(
            "stint_extra_dollars_total",
            "Estimated extra cost of placements that were not the cheapest, for an earlier finish or for other jobs",
            ["baseline"],
            registry=r,
        )
        self.requests = KeptElsewhere(
            "stint_api_requests_total", "Requests to the API server", ["verb", "code"], registry=r
        )
        self.leader = Gauge("stint_leader", "1 while this process leads", registry=r)
        self.informer_age = Gauge(
            "stint_informer_age_seconds", "Since the API server was last heard", ["kind"], registry=r
        )
        self.feed_up = Gauge("stint_feed_up", "1 while a price source can be read", _FEED, registry=r)
        self.feed_age = Gauge("stint_feed_age_seconds", "Since a price source was last read", _FEED, registry=r)
        self.feed_figures = Gauge("stint_feed_figures", "Figures that a price source gives", _FEED, registry=r)
        self.feed_refused = Gauge(
            "stint_feed_quarantined_figures", "Figures of a price source that are not believed", _FEED, registry=r
        )
        self.prometheus_up = Gauge("stint_prometheus_up", "1 while utilisation can be read", registry=r)
        self.circuit = Gauge(
            "stint_prometheus_circuit", "1 for the state of its circuit breaker", ["state"], registry=r
        )
        self.prometheus_queries = KeptElsewhere(
            "stint_prometheus_queries_total", "Queries that Prometheus was asked", registry=r
        )
        self.prometheus_bytes = KeptElsewhere(
            "stint_prometheus_response_bytes_total", "Bytes of its answers", registry=r
        )
        for counter in (self.saved, self.extra):
            counter.labels(NEXT_BEST)  # there from the start: a rate needs a zero to rise from
        for component in (*COMPONENTS, "transfer"):
            self.components_total.labels(component)
        for about in ("everybody", "newcomers"):
            self.plans.labels(about)
        for step in Fallback:
            for reason in Failure:
                if (step is Fallback.THREAD) == (reason is Failure.NOT_STARTED):
                    self.fallbacks.labels(step.value, reason.value)
        self._last: frozenset[_Decision] = frozenset()
        self._usage: tuple[Utilisation, ...] = ()
        self._usd_per_gpu_hour: dict[JobId, float] = {}  # of the jobs that are shown and placed

    def after_cycle(
        self,
        situation: Situation,
        plan: Plan,
        *,
        decide_s: float,
        cycle_s: float,
        paid_shares: Mapping[NodeName, float] | None = None,
    ) -> None:
        """Everything that a cycle shows, set afresh: what is no more does not linger.

        Args:
            paid_shares: which part of each unused node is paid for by the jobs that it was bought for.
        """
        self.decide_s.observe(decide_s)
        self.cycle_s.observe(cycle_s)
        self.plans.labels("newcomers" if plan.is_about_newcomers else "everybody").inc()
        self.regret.set(plan.standing.regret_usd if plan.standing is not None else 0.0)
        if plan.certificate is not None and plan.certificate.gap_ratio is not None:
            self.gap.set(plan.certificate.gap_ratio)
            self.plan_cost.set(plan.certificate.objective_usd)
            self.plan_bound.set(plan.certificate.bound_usd)
        _set(self.jobs, _phases(situation, plan))
        _set(self.held, Tally((h.reason.value,) for h in plan.holds))
        self._count_decisions(plan)
        self._show_jobs(situation, plan)
        self._show_usage()
        self._show_pools(situation)
        self._show_unused(situation, paid_shares or {})
        self.unused.set(unused_usd_per_hour(situation))
        self.stopped.set(bool(plan.scale_up_stopped))
        self._expect_spending(situation, plan)

    def _expect_spending(self, situation: Situation, plan: Plan) -> None:
        """What placed gangs will add to is there before they do: a rate needs a zero to rise from."""
        offerings = {o.id: o for o in situation.offerings}
        placed = {(p.job, p.chosen.offering) for p in plan.placements}
        placed |= {(j.id, j.assignment.offering) for j in situation.jobs if j.assignment is not None}
        for job, offering in placed:
            if (o := offerings.get(offering)) is None:
                continue
            namespace, _ = split_job_id(job)
            where = (namespace, o.pool, o.gpu_model, o.capacity_type.value)
            for use in USES:
                self.spent_total.labels(*where, use)
                self.gpu_seconds.labels(*where, use)
            self.spent_total.labels(*where, "transfer")
            self.joules.labels(*where)
            self.grams.labels(*where)
            self.baseline_total.labels(namespace)

    def _count_decisions(self, plan: Plan) -> None:
        """A decision that stands from cycle to cycle, or that failed and is taken again, counts once."""
        told = dict(_decisions(plan))
        for decision in told.keys() - self._last:
            self.decisions.labels(decision.action, decision.reason).inc()
            placement = told[decision]
            if isinstance(placement, Placement) and (best := placement.explanation.runner_up) is not None:
                saved = best.cost.usd - placement.chosen.cost.usd
                (self.saved if saved > 0 else self.extra).labels(NEXT_BEST).inc(abs(saved))
        self._last = frozenset(told)

    def _show_jobs(self, situation: Situation, plan: Plan) -> None:
        for gauge in (self.job_spent, self.job_estimate, self.job_slack, self.job_rate):
            gauge.clear()
        self._usd_per_gpu_hour.clear()
        stays = {s.job: s for s in plan.stays}
        places = {p.job: p.chosen for p in plan.placements}
        waits = {h.job: h.chosen for h in plan.holds if h.chosen is not None}
        for job in sorted(situation.jobs, key=lambda j: (-j.spent_usd, j.id))[:MOST_JOBS]:
            labels = split_job_id(job.id)
            self.job_spent.labels(*labels).set(job.spent_usd)
            stay, chosen = stays.get(job.id), places.get(job.id) or waits.get(job.id)
            finish = stay.finish if stay else chosen.finish if chosen else None
            more = stay.cost_to_finish_usd if stay else chosen.cost.usd if chosen else None
            if more is not None:
                self.job_estimate.labels(*labels).set(job.spent_usd + more)
            if finish is not None and job.deadline is not None:
                self.job_slack.labels(*labels).set(hours_between(finish, job.deadline) * 3600)
            if job.assignment is not None:
                self.job_rate.labels(*labels).set(job.assignment.usd_per_hour)
                gpus = job.gpus(len(job.assignment.nodes))
                self._usd_per_gpu_hour[job.id] = job.assignment.usd_per_hour / gpus if gpus else 0.0
        offerings = {o.id: o for o in situation.offerings}
        rates: dict[tuple[str, ...], float] = {}
        for job in situation.jobs:
            if job.assignment is not None and (o := offerings.get(job.assignment.offering)) is not None:
                where = (o.pool, o.gpu_model, o.capacity_type.value)
                rates[where] = rates.get(where, 0.0) + job.assignment.usd_per_hour
        _set(self.rate, rates)

    def _show_pools(self, situation: Situation) -> None:
        _set(self.node_suspect, {(n.name,): 1.0 for n in situation.nodes if n.suspect})
        offerings = {o.id: o for o in situation.offerings}
        nodes: dict[tuple[str, ...], float] = {
            (p.name, state): 0.0 for p in situation.pools for state in ("ready", "pending", "unusable")
        }
        gpus: dict[tuple[str, ...], float] = {
            (o.pool, o.gpu_model, state): 0.0 for o in situation.offerings for state in ("used", "free")
        }
        for node in situation.nodes:
            o = offerings[node.offering]
            nodes[o.pool, _state(node)] = nodes.get((o.pool, _state(node)), 0.0) + 1
            if node.usable:
                used = min(node.used.gpus, node.allocatable.gpus)
                gpus[o.pool, o.gpu_model, "used"] += o.whole_gpus(used)
                gpus[o.pool, o.gpu_model, "free"] += o.whole_gpus(node.allocatable.gpus - used)
        _set(self.pool_nodes, nodes)
        _set(self.pool_gpus, gpus)
        self.price.clear()
        ages: dict[tuple[str, ...], float] = {}
        for o in situation.offerings:
            price = o.usd_per_node_hour
            if price is None or not price.usable or not o.per_node.gpus:
                continue
            labels = (o.pool, o.gpu_model, o.capacity_type.value, price.source)
            self.price.labels(*labels).set(price.value / o.whole_gpus(o.per_node.gpus))
            days = price.age_days(situation.now.date())
            by_definition = price.confidence is Confidence.DEFINITION  # as what is paid for anyway: it never ages
            age = 0.0 if by_definition else math.inf if days is None else days * 86_400
            ages[o.pool,] = max(ages.get((o.pool,), 0.0), age)
        _set(self.price_age, ages)

    def _show_unused(self, situation: Situation, paid_shares: Mapping[NodeName, float]) -> None:
        offerings = {o.id: o for o in situation.offerings}
        usd: dict[tuple[str, ...], float] = dict.fromkeys(((o.pool,) for o in situation.offerings), 0.0)
        for node in situation.nodes:
            offering = offerings[node.offering]
            price = value_of(offering.billed_price, 0.0)
            usd[offering.pool,] += price * paid_shares.get(node.name, 0.0)
        _set(self.unused_paid, usd)

    def feeds(self, found: Mapping[str, tuple[bool, float | None, int, int]]) -> None:
        """By source: whether it can be read, the age of its last good reading, its figures, those not believed."""
        shown = dict(sorted(found.items())[:MOST_FEEDS])
        _set(self.feed_up, {(n,): float(up) for n, (up, *_) in shown.items()})
        _set(self.feed_age, {(n,): age for n, (_, age, *_) in shown.items() if age is not None})
        _set(self.feed_figures, {(n,): figures for n, (_, _, figures, _) in shown.items()})
        _set(self.feed_refused, {(n,): refused for n, (*_, refused) in shown.items()})

    def booked(self, namespace: str, line: Line) -> None:
        """What has been added to a ledger."""
        where = (namespace, line.pool, line.gpu_model, line.capacity_type)
        for use in USES:
            for counter, uses in ((self.spent_total, line.usd), (self.gpu_seconds, line.gpu_seconds)):
                if (more := getattr(uses, use)) > 0:
                    counter.labels(*where, use).inc(more)
        if line.components.transfer > 0:
            self.spent_total.labels(*where, "transfer").inc(line.components.transfer)
        for component in (*COMPONENTS, "transfer"):
            if (more := getattr(line.components, component)) > 0:
                self.components_total.labels(component).inc(more)
        self.joules.labels(*where).inc(max(0.0, line.energy_kwh) * JOULES_PER_KWH)
        self.grams.labels(*where).inc(max(0.0, line.carbon_g))
        self.baseline_total.labels(namespace).inc(max(0.0, line.baseline_usd))

    def rolled_back(self, reason: str) -> None:
        """A gang was released and taken back."""
        self.rollbacks.labels(reason).inc()

    def fell_back(self, step: Fallback, reason: Failure) -> None:
        """A plan had to be made by something simpler."""
        self.fallbacks.labels(step.value, reason.value).inc()
        if reason is Failure.UNSOUND:
            self.unsound.inc()
        if reason is Failure.RAISED:
            self.unforeseen()

    def unforeseen(self) -> None:
        """Something was raised that nobody foresaw."""
        self.surprises.inc()

    def usage(self, found: Iterable[Utilisation]) -> None:
        """What Prometheus says about running jobs; unknown has no series, and nor has a job that is not shown."""
        self._usage = tuple(found)
        self._show_usage()

    def _show_usage(self) -> None:
        gauges = (self.job_util, self.job_watts, self.job_idle, self.job_idle_rate, self.job_processless, self.job_work)
        for gauge in gauges:
            gauge.clear()
        for u in self._usage:
            price = self._usd_per_gpu_hour.get(u.job)
            if price is None:
                continue
            labels = split_job_id(u.job)
            wasted = None if u.idle_gpus is None else u.idle_gpus * price
            for gauge, value in (
                (self.job_util, u.gpu_ratio),
                (self.job_watts, u.watts),
                (self.job_idle, u.idle_gpus),
                (self.job_idle_rate, wasted),
                (self.job_processless, u.processless_gpus),
                (self.job_work, u.work_ratio),
            ):
                if value is not None:
                    gauge.labels(*labels).set(value)

    def prometheus(self, *, up: bool, circuit: str, queries: int, read_bytes: int) -> None:
        """How reading utilisation goes. `circuit`: the state of its circuit breaker."""
        self.prometheus_up.set(up)
        _set(self.circuit, {(state,): float(state == circuit) for state in ("closed", "half-open", "open")})
        self.prometheus_queries.set(queries)
        self.prometheus_bytes.set(read_bytes)

    def render(self) -> bytes:
        """In the text format."""
        return generate_latest(self.registry)


def _set(gauge: Gauge, values: Mapping[tuple[str, ...], float]) -> None:
    gauge.clear()
    for labels, value in values.items():
        gauge.labels(*labels).set(value)


def _phases(situation: Situation, plan: Plan) -> dict[tuple[str, ...], float]:
    """How many jobs are in each phase, as their status will say; those that the core does not see are not counted."""
    outcomes = phases.outcomes(plan)
    began = {g.job for g in situation.gangs if g.running_since is not None}

    def phase(job: Job) -> Phase:
        placed = job.assignment is not None
        runs = job.id in began or (job.assignment is not None and job.assignment.running)
        return phases.phase(outcomes.get(job.id), suspended=job.suspended, placed=placed, runs=runs)

    tally = Tally(phase(job) for job in situation.jobs)
    return {(p.value,): tally[p] for p in _PHASES}


def _decisions(plan: Plan) -> Iterator[tuple[_Decision, Placement | Hold | Requeue | Resize]]:
    for placement in plan.placements:
        yield _Decision(placement.job, "place", "Placed"), placement
    for hold in plan.holds:
        yield _Decision(hold.job, "hold", hold.reason.value), hold
    for requeue in plan.requeues:
        yield _Decision(requeue.job, "recall", requeue.reason.value), requeue
    for resize in plan.resizes:
        grows = resize.to_nodes > resize.from_nodes
        action = "advise" if resize.advise_only else "grow" if grows else "give_back"
        about = f"{resize.offering} {resize.from_nodes} -> {resize.to_nodes}"
        yield _Decision(about, action, "ForJobs" if grows else "Empty"), resize


def _state(node: Node) -> str:
    return "ready" if node.usable else "pending" if node.ready_at else "unusable"
