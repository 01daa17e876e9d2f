"""The world: nodes come late or never and are taken away, gangs run, lose work and end, all of it is paid for.

It does what a plan says and knows nothing of how plans are made. What it looks like at an instant is a `Situation`, the
same noun that the operator makes of a cluster.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np

from stint.estimate.runtime import units_per_hour, work_hours_left
from stint.model.gang import GangFacts, GangState
from stint.model.job import Binding, Job, JobId, NodeName
from stint.model.plan import MOVES, Placement, Reason, Requeue
from stint.model.resources import Resources
from stint.model.situation import Situation
from stint.placement.columns import Rows, price_columns, share_of_node
from stint.sim.books import APART
from stint.sim.cluster_state import ClusterState, Life
from stint.sim.events import Event, Kind
from stint.sim.gang import Gang, Mishap, Tempo
from stint.sim.machine import Machine

_MISHAPS = 1 << 20  # dice of gangs, apart from those of nodes
_PLACEMENT_TIMEOUT_S = GangFacts(job=JobId(""), state=GangState.ABSENT).placement_timeout.total_seconds()


@dataclass(slots=True)
class World(ClusterState):
    """Nodes, and the gangs that run on them."""

    _to_come: dict[JobId, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Put the standing nodes up, and foresee the jobs."""
        stage = self.stage
        self.offerings = {o.id: o for o in sorted(stage.offerings, key=lambda o: o.id)}
        self.pools = {p.name: p for p in stage.pools}
        for offering, count in sorted(stage.standing.items()):
            for _ in range(count):
                machine = self.machine(self.offerings[offering], bought=False)
                self.up(machine)
        for job in stage.jobs:
            self._to_come[job.id] = job
            self.events.foresee((job.created - stage.start) / timedelta(seconds=1), Kind.SUBMIT, job.id)

    # What it looks like

    @property
    def now(self) -> datetime:
        """The time as a date."""
        return self.stage.start + timedelta(seconds=self.now_s)

    @property
    def over(self) -> bool:
        """Whether all jobs have ended and all nodes that were bought are gone."""
        return not (self._to_come or self.open or any(m.bought for m in self.machines.values()))

    @property
    def unborn(self) -> int:
        """Jobs that are yet to be submitted."""
        return len(self._to_come)

    def situation(self) -> Situation:
        """What a decision may look at."""
        return Situation(
            now=self.now,
            jobs=tuple(self._seen(life) for life in self.open.values()),
            gangs=tuple(self._facts(life, life.gang) for life in self.open.values() if life.gang is not None),
            nodes=tuple(m.look(self.stage.start, self.now_s) for m in self.machines.values()),
            offerings=tuple(self.offerings.values()),
            pools=self.stage.pools,
            rates=self.stage.rates,
            settings=self.stage.settings,
        )

    def _seen(self, life: Life) -> Job:
        gang, job = life.gang, life.job
        if gang is None:
            return job
        done = min(job.work.units, job.work.units_done + gang.units_worked(self.now_s))
        spent = life.spent_usd
        if job.budget_usd is not None:
            spent += sum(self._rate(gang)) * (self.now_s - gang.placed_s) / 3600.0
        return replace(job, work=replace(job.work, units_done=done), spent_usd=spent)

    def _facts(self, life: Life, gang: Gang) -> GangFacts:
        """What the operator would see of a gang."""
        size, began = len(gang.nodes), self._date(gang.works_s) if gang.works else None
        failed, evicted, hung = (gang.mishap is m for m in (Mishap.FAILED, Mishap.EVICTED, Mishap.HUNG))
        return GangFacts(
            job=gang.job,
            state=GangState.FAILED if failed else GangState.PLACED,
            had_place=True,
            nodes=gang.nodes,
            since=self._date(gang.placed_s),
            attempt=gang.attempt,
            failed_starts=life.failed_starts,
            pods=size,
            ready=size if gang.works else size - hung,
            running_since=began,
            failure="simulated failure of a worker" if failed else "",
            disruption=f"worker 0 on {gang.nodes[0]} is evicted" if evicted else "",
            unschedulable=(size - 1,) if hung else (),
        )

    def _date(self, at_s: float) -> datetime:
        return self.stage.start + timedelta(seconds=at_s)

    def _rate(self, gang: Gang) -> Iterable[float]:
        yield from gang.apart_usd_per_hour.values()
        there = (m for n in sorted(set(gang.nodes)) if (m := self.machines.get(n)) is not None)
        yield from (m.usd_per_hour * m.shares.get(gang.job, 0.0) for m in there)

    # What happens in it

    def happen(self, event: Event) -> bool:
        """Let it happen. Returns whether anything has changed that a decision could be about."""
        self.now_s = event.at_s
        if event.kind is Kind.SUBMIT:
            job = self._to_come.pop(JobId(event.subject))
            self.lives[job.id] = self.open[job.id] = Life(job=job, submitted_s=self.now_s)
            return True
        if event.kind in (Kind.WORKS, Kind.FINISHED):
            gang = self.gangs.get(JobId(event.subject))
            if gang is None or gang.turn != event.turn or gang.broken_s is not None:
                return False
            if event.kind is Kind.FINISHED:
                return self._finished(gang)
            life = self.lives[gang.job]
            gang.works, life.failed_starts = True, 0
            assert life.job.assignment is not None
            life.job = replace(life.job, assignment=replace(life.job.assignment, running=True))
            return False  # nobody waits for that
        if event.kind in (Kind.FAILED, Kind.EVICTED):
            gang = self.gangs.get(JobId(event.subject))
            if gang is None or gang.turn != event.turn or gang.broken_s is not None:
                return False
            self._break(gang)
            gang.mishap = Mishap.FAILED if event.kind is Kind.FAILED else Mishap.EVICTED
            return True
        if event.kind is Kind.LOOK and not event.subject:
            return True
        machine = self.machines.get(NodeName(event.subject))
        return machine is not None and self._happen_to(machine, event)

    def _happen_to(self, machine: Machine, event: Event) -> bool:
        if event.kind is Kind.NODE_UP:
            self.up(machine)
        elif event.kind is Kind.LOOK:
            return machine.empty_since_s is not None and self.now_s - machine.empty_since_s >= self.patience_s(machine)
        elif event.kind is Kind.NOTICE:
            machine.interrupted, machine.seen = True, None
            self.interruptions += 1
            self.events.foresee(self.now_s + self.stage.conditions.notice_s, Kind.TAKEN, machine.name)
        elif event.kind is Kind.TAKEN:
            for job in list(machine.shares):
                self._break(self.gangs[job])
            self.gone(machine)
        elif event.kind is Kind.ORDER_LOST:
            self.gone(machine)
        return True

    def _finished(self, gang: Gang) -> bool:
        life = self.open.pop(gang.job)
        self._leave(life, gang)
        life.job = replace(life.job, work=replace(life.job.work, units_done=life.job.work.units))
        life.ended_s = self.now_s
        for machine in self.machines.values():
            machine.ordered_for.discard(gang.job)
        return True

    def _break(self, gang: Gang) -> None:
        """A node of it is gone: it stands still, and holds what it has until it is requeued."""
        if gang.broken_s is None:
            for name in sorted(set(gang.nodes)):
                if name in self.machines:
                    self.machines[name].settle(self.books, self.gangs, self.now_s)
            self.lives[gang.job].spent_usd += gang.book(self.books, self.now_s)
            gang.broken_s = self.now_s

    # Gangs

    def place(self, placement: Placement, situation: Situation) -> None:
        """Start a gang."""
        life = self.open[placement.job]
        job, nodes = life.job, placement.nodes
        offering = self.offerings[placement.chosen.offering]
        for machine in self.machines.values():
            if job.id in machine.ordered_for:
                machine.settle(self.books, self.gangs, self.now_s)
                machine.ordered_for.discard(job.id)
        share = share_of_node(job, offering, len(nodes))
        count = Counter(nodes)
        for name, held in sorted(job.on_nodes(nodes).items()):
            machine = self.machines[name]
            machine.settle(self.books, self.gangs, self.now_s)
            machine.shares[job.id] = count[name] * share
            machine.used += held
            machine.empty_since_s, machine.seen = None, None
        per_s = units_per_hour(job, offering.gpu_model, len(nodes)) / 3600.0
        tempo = Tempo.of(job.checkpoint, work_hours_left(job, offering.gpu_model, len(nodes)) * 3600.0)
        start = self.stage.settings.start_seconds
        restore = job.checkpoint.restart.total_seconds() if job.work.units_done > 0 else 0.0
        boot = max(start, restore)
        life.starts += 1
        gang = Gang(job.id, life.starts, offering.id, nodes, tempo, per_s, self.now_s, boot, max(0.0, boot - start))
        gang.attempt = life.retries
        self._pay_apart(life, gang, situation)
        life.gang = self.gangs[job.id] = gang
        if life.first_start_s is None:
            life.first_start_s = self.now_s
        place = Binding(
            offering=offering.id,
            nodes=nodes,
            since=self.now,
            released=True,
            usd_per_hour=placement.chosen.usd_per_hour,
            finish=placement.chosen.finish,
        )
        life.job = replace(job, assignment=place, avoid=())
        self._foresee(gang)

    def _foresee(self, gang: Gang) -> None:
        """When it works and ends, unless something happens to it first."""
        conditions = self.stage.conditions
        if conditions.hung_starts or conditions.worker_failures_per_hour or conditions.evictions_per_hour:
            number = zlib.crc32(gang.job.encode())
            rng = np.random.default_rng((self.seed, _MISHAPS, number, gang.turn))
            hangs = float(rng.random()) < conditions.hung_starts
            hours = [float(rng.exponential()), float(rng.exponential())]  # at one an hour
            if hangs:
                gang.broken_s, gang.mishap = self.now_s, Mishap.HUNG
                self.events.foresee(self.now_s + _PLACEMENT_TIMEOUT_S + 1.0, Kind.LOOK)
                return
            rates = (conditions.worker_failures_per_hour, conditions.evictions_per_hour)
            for kind, rate, scale in zip((Kind.FAILED, Kind.EVICTED), rates, hours, strict=True):
                if rate > 0:
                    after_s = 3600.0 * scale / (rate * len(gang.nodes))
                    self.events.foresee(gang.works_s + after_s, kind, gang.job, gang.turn)
        self.events.foresee(gang.works_s, Kind.WORKS, gang.job, gang.turn)
        self.events.foresee(gang.works_s + gang.tempo.wall_s, Kind.FINISHED, gang.job, gang.turn)

    def _pay_apart(self, life: Life, gang: Gang, situation: Situation) -> None:
        """What is paid beside the nodes, as the cost model has it: by the hour, but for moving the data."""
        offering = self.offerings[gang.offering]
        rows = Rows.running([0], [len(gang.nodes)])
        pools = (self.pools[offering.pool],)
        column = price_columns(situation, [life.job], (offering,), pools, np.zeros(1, dtype=np.int64), rows)
        hours, egress = float(column.held_hours[0]), float(column.cost.egress_usd[0])
        if math.isfinite(egress) and egress > 0:
            self.books.add("egress", egress, self.now_s, self.now_s)
            life.spent_usd += egress
        if hours > 0:
            usd = {name: float(getattr(column.cost, f"{name}_usd")[0]) for name in APART if name != "egress"}
            gang.apart_usd_per_hour = {name: u / hours for name, u in usd.items() if 0 < u < math.inf}

    def requeue(self, requeue: Requeue) -> None:
        """Stop a gang: its job waits again, with the work of its last checkpoint."""
        life = self.open[requeue.job]
        gang = life.gang
        assert gang is not None
        kept = gang.units_kept(self.now_s)
        self._leave(life, gang)
        units = min(life.job.work.units, life.job.work.units_done + kept)
        moved = self.now if requeue.reason in MOVES else life.job.moved_at
        life.interruptions += requeue.reason in (Reason.NODE_LOST, Reason.NODE_INTERRUPTED)
        life.retries = life.retries if requeue.retries is None else requeue.retries
        life.failed_starts = life.failed_starts if requeue.failed_starts is None else requeue.failed_starts
        life.job = replace(
            life.job,
            assignment=None,
            work=replace(life.job.work, units_done=units),
            spent_usd=life.spent_usd,
            moved_at=moved,
            avoid=requeue.avoid,
            not_before=requeue.not_before,
        )

    def _leave(self, life: Life, gang: Gang) -> None:
        for name, held in sorted(life.job.on_nodes(gang.nodes).items()):
            machine = self.machines.get(name)
            if machine is None:
                continue
            machine.settle(self.books, self.gangs, self.now_s)
            machine.shares.pop(gang.job, None)
            machine.used, machine.seen = machine.used.less(held), None
            if not machine.shares:
                machine.used = Resources()
                self.empty(machine)
        life.spent_usd += gang.book(self.books, self.now_s)
        life.gang = None
        del self.gangs[gang.job]

    def settle(self) -> None:
        """Bring the books up to now, for a report in the middle of things."""
        for machine in self.machines.values():
            machine.settle(self.books, self.gangs, self.now_s)
        for gang in list(self.gangs.values()):
            self.lives[gang.job].spent_usd += gang.book(self.books, self.now_s, goes_on=True)
            gang.broken_s = self.now_s
