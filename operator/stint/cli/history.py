"""Jobs that have been, for `stint simulate`: from a CSV, from Slurm's `sacct`, or from a cluster's memory.

Such a log knows neither deadlines nor who may be interrupted. Without a scenario nothing of that is made up: no job has
a deadline, none takes spot, and those that asked for a GPU model stay on it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from stint.api.gpupool import PoolOffering
from stint.api.parse.job import Known, to_job
from stint.api.scenario import FORMAT, FleetPool, HabitsPart, JobsPart, Scenario
from stint.api.trainingjob import TrainingJob
from stint.cli import scenario as files
from stint.cli.sources import situation_from_cluster
from stint.errors import InvalidInputError, Mistake
from stint.feeds import bundled
from stint.kube.client.api import Api, ApiError, connect
from stint.kube.observe.finished import rows_of
from stint.model.job import Job, Phase
from stint.model.situation import Situation
from stint.sim.sacct import read_sacct
from stint.sim.trace import Log, Models, log_of, read_log
from stint.sim.workload import Habits

_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)  # of logs that count seconds
_AS_SEEN = HabitsPart(pinned=0.0, spot=0.0, deadlines=0.0)
_MACHINES = (
    *("g4dn.12xlarge", "g5.12xlarge", "g6.12xlarge", "g6e.12xlarge", "p3.16xlarge"),
    *("p4d.24xlarge", "p4de.24xlarge", "p5.48xlarge", "p5en.48xlarge"),
)  # one for each GPU model whose speed is known, on demand, as many as wanted
_DEFAULT = Scenario(
    format=FORMAT,
    name="AWS on demand",
    start=_EPOCH,
    fleet=[
        FleetPool(
            name=machine.replace(".", "-"),
            offerings=[PoolOffering(provider="aws", instance_type=machine, zone="us-east-1a")],
            max_nodes=256,
        )
        for machine in _MACHINES
    ],
    jobs=JobsPart(habits=_AS_SEEN),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Something to simulate, and what to say of where it comes from."""

    read: files.Read
    notes: tuple[str, ...]


def add_options(verb: argparse.ArgumentParser) -> None:
    """Of the command line."""
    logs = verb.add_mutually_exclusive_group()
    logs.add_argument("--from-csv", metavar="LOG.csv", help="jobs from a log; - for standard input")
    logs.add_argument("--from-sacct", metavar="FILE", help="from `sacct --allusers --parsable2 --format=...` of Slurm")
    logs.add_argument("--from-cluster", action="store_true", help="jobs that have ended there, and its pools and nodes")
    verb.add_argument("--kubeconfig", type=Path, help="by default $KUBECONFIG, or the usual file")


def asked_for(options: argparse.Namespace) -> bool:
    """Whether jobs come from a log."""
    return bool(options.from_csv or options.from_sacct or options.from_cluster)


def read(options: argparse.Namespace) -> History:
    """The log that the command line names, on the scenario's fleet, or else on the cluster's or on AWS.

    Raises:
        InvalidInputError: with every mistake of the log, or of the scenario.
    """
    given = files.without_jobs(options.scenario) if options.scenario is not None else None
    if options.from_cluster:
        return asyncio.run(_from_cluster(options.kubeconfig, given))
    on = given or files.of_fleet(_DEFAULT, datetime.now(UTC).date())
    file, reader = (options.from_csv, read_log) if options.from_csv else (options.from_sacct, read_sacct)
    text = sys.stdin.read() if file == "-" else files.text_of(Path(file), "the log")
    log = reader(text.splitlines(), name="standard input" if file == "-" else file, models=_models(on))
    return _history(log, (), on, name="log" if file == "-" else Path(file).stem, given=given is not None)


def _models(on: files.Read) -> Models:
    return Models(bundled.load(), on.scenario.jobs.habits.speeds or Habits().speeds)


def _history(log: Log, jobs: tuple[Job, ...], on: files.Read, *, name: str, given: bool) -> History:
    """Put a log onto a fleet. With a scenario its start is time zero, and without one the log's."""
    if not log.rows and not jobs:
        why = ", ".join(f"{count} {text}" for text, count in log.unused.items()) or "it is empty"
        raise InvalidInputError(name, [Mistake("the jobs", "none that can be used", why)])
    start = log.zero or _EPOCH
    scenario = msgspec.structs.replace(on.scenario, name=name)
    if not given or jobs:
        scenario = msgspec.structs.replace(scenario, start=start)
    notes = [f"{len(log.rows) + len(jobs)} jobs" + (f" from {log.zero:%Y-%m-%d %H:%M} UTC on" if log.zero else "")]
    notes += [f"not used, {count}: {why}" for why, count in log.unused.items()]
    habits = scenario.jobs.habits
    if unnamed := sum(not r.gpu_model for r in log.rows):
        notes.append(f"naming no GPU model, {unnamed}: they are taken to have run on {habits.reference}")
    if log.rows and not given:
        notes.append("nobody takes spot or has a deadline, as the log says nothing of it; a scenario's jobs.habits can")
    return History(read=replace(on, scenario=scenario, rows=log.rows, manifests=jobs), notes=tuple(notes))


async def _from_cluster(kubeconfig: Path | None, given: files.Read | None) -> History:
    async with Api(connect(kubeconfig)) as api:
        jobs = (await api.get("/apis/batch/v1/jobs"))["items"]
        mine = await _installed(api, "stint.dev", "trainingjobs")
        volcano = await _installed(api, "batch.volcano.sh", "jobs")
        workloads = await _installed(api, "kueue.x-k8s.io", "workloads")
    on = given or _of_cluster(await situation_from_cluster(kubeconfig, without_stint=True))
    unused: Counter[str] = Counter()
    dated = list(rows_of(jobs, volcano, workloads, _models(on), unused))
    done = tuple(_training_jobs(mine, unused))
    log = log_of(dated, unused=unused)
    zero = min([j.created for j in done] + ([log.zero] if log.zero else []), default=None)
    if zero is not None and log.zero is not None:
        log = replace(log, rows=tuple(replace(r, at=r.at + (log.zero - zero)) for r in log.rows))
    log = replace(log, zero=zero)
    return _history(log, done, on, name="cluster", given=given is not None)


async def _installed(api: Api, group: str, plural: str) -> list[Any]:
    """All objects of a kind in the version that its API server prefers; none where it is not installed."""
    try:
        version = (await api.get(f"/apis/{group}"))["preferredVersion"]["groupVersion"]
        return list((await api.get(f"/apis/{version}/{plural}"))["items"])
    except ApiError as error:
        if error.status != 404:
            raise
        return []


def _training_jobs(items: Iterable[Mapping[str, Any]], unused: Counter[str]) -> Iterable[Job]:
    """As they were when they were submitted, with all that they say: those that have succeeded."""
    catalogue = bundled.load()
    for item in items:
        resource = msgspec.convert(item, TrainingJob)
        created, phase = resource.metadata.creation_timestamp, resource.status.phase
        if resource.spec.steers is not None:
            continue  # it stands for a workload that is counted itself
        if created is None or phase != Phase.SUCCEEDED:
            ended = phase == Phase.FAILED
            unused["TrainingJobs that failed" if ended else "TrainingJobs that have not ended"] += 1
            continue
        try:
            yield to_job(resource, catalogue, Known(), created=created)
        except InvalidInputError as error:
            unused[f"TrainingJobs whose {error.mistakes[0].path} cannot be used"] += 1


def _of_cluster(situation: Situation) -> files.Read:
    """Its pools as they are. Nodes that Stint may not give back stand from start to end; taints are for others."""
    pools = {p.name: p for p in situation.pools}
    standing: Counter[Any] = Counter()
    for node in situation.nodes:
        standing[node.offering] += 1
    by_pool: Counter[Any] = Counter()
    for o in situation.offerings:
        pool = pools[o.pool]
        if pool.scaler is not None and not pool.advise_only:
            standing[o.id] = min(standing[o.id], max(0, pool.min_nodes - by_pool[o.pool]))
        by_pool[o.pool] += standing[o.id]
    gpus: Counter[str] = Counter()
    for o in situation.offerings:
        gpus[o.gpu_model] += max(1, standing[o.id]) * o.per_node.gpus
    known = {m: n for m, n in gpus.items() if m in Habits().speeds}
    reference = max(known, key=lambda m: (known[m], m), default=_AS_SEEN.reference)
    habits = msgspec.structs.replace(_AS_SEEN, reference=reference)
    scenario = Scenario(format=FORMAT, name="cluster", start=situation.now, jobs=JobsPart(habits=habits))
    fleet = files.Fleet(
        offerings=tuple(replace(o, taints=()) for o in situation.offerings),
        pools=tuple(replace(p, wanted_nodes=0) for p in situation.pools),
        standing={o: count for o, count in standing.items() if count},
        rates=lambda _: situation.rates,
    )
    return files.Read(scenario=scenario, fleet=fleet, rows=(), manifests=())
