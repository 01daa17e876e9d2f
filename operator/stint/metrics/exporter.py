"""Our metrics. Base units, `_total` on counters only, no series per pod; series per job for the dearest jobs only."""

from __future__ import annotations

import math
from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from stint.estimate.runtime import hours_between
from stint.model.cluster import Utilisation
from stint.model.job import Job, JobId, split_job_id
from stint.model.plan import Plan
from stint.model.situation import Situation

MOST_JOBS = 500
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_WHERE = ("pool", "gpu_model", "capacity_type")
_JOB = ("namespace", "job")


class Metrics:
    """All of them, in a registry of their own."""

    def __init__(self, version: str = "") -> None:
        self.registry = r = CollectorRegistry()
        Gauge("stint_build_info", "Which version runs", ["version"], registry=r).labels(version).set(1)
        self.jobs = Gauge("stint_jobs", "Jobs that have not ended", ["phase"], registry=r)
        self.held = Gauge("stint_jobs_held", "Jobs that wait, by why", ["reason"], registry=r)
        self.job_spent = Gauge("stint_job_spent_dollars", "Spent so far", _JOB, registry=r)
        self.job_estimate = Gauge("stint_job_estimated_cost_dollars", "From the beginning to the end", _JOB, registry=r)
        self.job_slack = Gauge(
            "stint_job_deadline_slack_seconds", "From the estimated finish to the deadline", _JOB, registry=r
        )
        self.job_util = Gauge("stint_job_gpu_utilisation_ratio", "Mean over its GPUs", _JOB, registry=r)
        self.job_watts = Gauge("stint_job_power_watts", "All its GPUs together", _JOB, registry=r)
        self.job_idle = Gauge("stint_job_idle_gpus", "GPUs of a running job that do nothing", _JOB, registry=r)
        self.spent_total = Counter("stint_spent_dollars_total", "Spent", ["namespace", *_WHERE], registry=r)
        self.rate = Gauge("stint_running_dollars_per_hour", "What running jobs cost an hour", _WHERE, registry=r)
        self.pool_nodes = Gauge("stint_pool_nodes", "Nodes", ["pool", "state"], registry=r)
        self.pool_gpus = Gauge("stint_pool_gpus", "GPUs of usable nodes", ["pool", "gpu_model", "state"], registry=r)
        self.price = Gauge("stint_pool_price_dollars_per_gpu_hour", "Price", [*_WHERE, "source"], registry=r)
        self.price_age = Gauge("stint_price_age_seconds", "Age of a pool's oldest price", ["pool"], registry=r)
        self.decide_s = Histogram("stint_decide_duration_seconds", "Deciding", registry=r, buckets=_BUCKETS)
        self.cycle_s = Histogram("stint_cycle_duration_seconds", "A whole cycle", registry=r, buckets=_BUCKETS)
        self.gap = Gauge("stint_plan_gap_ratio", "Cost of the last plan over its lower bound", registry=r)
        self.decisions = Counter("stint_decisions_total", "Decisions", ["action", "reason"], registry=r)
        self.rollbacks = Counter("stint_gang_rollbacks_total", "Gangs taken back", ["reason"], registry=r)
        self.unsound = Counter("stint_unsound_plans_total", "Answers that the verifier refused", registry=r)
        self.saved = Counter("stint_saved_dollars_total", "Estimated savings of placements", ["baseline"], registry=r)
        self.requests = Gauge("stint_api_requests", "Requests to the API server", ["verb", "code"], registry=r)
        self.leader = Gauge("stint_leader", "1 while this process leads", registry=r)
        self.informer_age = Gauge(
            "stint_informer_age_seconds", "Since the API server was last heard", ["kind"], registry=r
        )
        self.prometheus_up = Gauge("stint_prometheus_up", "1 while utilisation can be read", registry=r)

    def after_cycle(self, situation: Situation, plan: Plan, *, decide_s: float, cycle_s: float) -> None:
        """Everything that a cycle shows, set afresh: what is no more does not linger."""
        self.decide_s.observe(decide_s)
        self.cycle_s.observe(cycle_s)
        if plan.certificate is not None and plan.certificate.gap_ratio is not None:
            self.gap.set(plan.certificate.gap_ratio)
        _set(self.jobs, Tally((_phase(j),) for j in situation.jobs))
        _set(self.held, Tally((h.reason.value,) for h in plan.holds))
        self._count_decisions(plan)
        self._show_jobs(situation, plan)
        self._show_pools(situation)

    def _count_decisions(self, plan: Plan) -> None:
        for placement in plan.placements:
            self.decisions.labels("place", "Placed").inc()
            best = placement.explanation.runner_up
            if best is not None:
                self.saved.labels("next-best").inc(max(0.0, best.cost.usd - placement.chosen.cost.usd))
        for hold in plan.holds:
            self.decisions.labels("hold", hold.reason.value).inc()
        for recall in plan.recalls:
            self.decisions.labels("recall", recall.reason.value).inc()
        for resize in plan.resizes:
            action = "advise" if resize.advise_only else "give_back" if resize.give_back else "grow"
            self.decisions.labels(action, "").inc()

    def _show_jobs(self, situation: Situation, plan: Plan) -> None:
        for gauge in (self.job_spent, self.job_estimate, self.job_slack, self.rate):
            gauge.clear()
        offerings = {o.id: o for o in situation.offerings}
        stays = {s.job: s for s in plan.stays}
        places = {p.job: p.chosen for p in plan.placements}
        waits = {h.job: h.chosen for h in plan.holds if h.chosen is not None}
        rates: Tally[tuple[str, ...]] = Tally()
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
        for job in situation.jobs:
            if job.assignment is not None and (o := offerings.get(job.assignment.offering)) is not None:
                rates[o.pool, o.gpu_model, o.capacity_type.value] += job.assignment.usd_per_hour  # type: ignore[assignment]
        _set(self.rate, rates)

    def _show_pools(self, situation: Situation) -> None:
        self.price.clear()
        offerings = {o.id: o for o in situation.offerings}
        nodes: Tally[tuple[str, ...]] = Tally()
        gpus: Tally[tuple[str, ...]] = Tally()
        for node in situation.nodes:
            o = offerings[node.offering]
            state = "ready" if node.usable else "pending" if node.ready_at else "unusable"
            nodes[o.pool, state] += 1
            if node.usable:
                used = min(node.used.gpus, node.allocatable.gpus)
                gpus[o.pool, o.gpu_model, "used"] += used
                gpus[o.pool, o.gpu_model, "free"] += node.allocatable.gpus - used
        _set(self.pool_nodes, nodes)
        _set(self.pool_gpus, gpus)
        ages: dict[str, float] = {}
        for o in situation.offerings:
            price = o.usd_per_node_hour
            if price is None or not o.per_node.gpus:
                continue
            labels = (o.pool, o.gpu_model, o.capacity_type.value, price.source)
            self.price.labels(*labels).set(price.value / o.per_node.gpus)
            days = price.age_days(situation.now.date())
            ages[o.pool] = max(ages.get(o.pool, 0.0), math.inf if days is None else days * 86_400)
        self.price_age.clear()
        for pool, age in ages.items():
            self.price_age.labels(pool).set(age)

    def spent(self, *, namespace: str, pool: str, gpu_model: str, capacity_type: str, dollars: float) -> None:
        """Dollars that were spent since the last cycle."""
        self.spent_total.labels(namespace, pool, gpu_model, capacity_type).inc(dollars)

    def rolled_back(self, reason: str) -> None:
        """A gang was released and taken back."""
        self.rollbacks.labels(reason).inc()

    def unsound_plan(self) -> None:
        """The verifier refused an answer."""
        self.unsound.inc()

    def usage(self, found: Iterable[Utilisation]) -> None:
        """What Prometheus says about running jobs; unknown has no series."""
        for gauge in (self.job_util, self.job_watts, self.job_idle):
            gauge.clear()
        for u in found:
            labels = split_job_id(JobId(u.job))
            pairs = ((self.job_util, u.gpu_ratio), (self.job_watts, u.watts), (self.job_idle, u.idle_gpus))
            for gauge, value in pairs:
                if value is not None:
                    gauge.labels(*labels).set(value)

    def render(self) -> bytes:
        """In the text format."""
        return generate_latest(self.registry)


def _set(gauge: Gauge, values: Tally[tuple[str, ...]]) -> None:
    gauge.clear()
    for labels, value in values.items():
        gauge.labels(*labels).set(value)


def _phase(job: Job) -> str:
    if job.suspended:
        return "Suspended"
    if job.assignment is None:
        return "Queued"
    return "Running" if job.assignment.running else "Starting"
