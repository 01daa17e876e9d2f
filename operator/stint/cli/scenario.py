"""Scenarios for `stint simulate`: a YAML file, read with every mistake told at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from stint.api import reading, yaml_text
from stint.api.gpupool import GPUPool, Limits, Mode, Scaler
from stint.api.gpupool import Spec as PoolSpec
from stint.api.meta import Meta
from stint.api.parse.job import Known, to_job
from stint.api.parse.pricebook import read_books
from stint.api.pricebook import PriceBook
from stint.api.scenario import FORMAT, FleetPool, JobsPart, Scenario
from stint.capacity.kwok import KwokAdapter
from stint.catalogue.catalogue import Catalogue
from stint.cli import manifests
from stint.errors import InvalidInputError, Mistake
from stint.feeds import bundled
from stint.kube.observe.inventory import take_inventory
from stint.kube.observe.snapshot import rates_of
from stint.model.job import Job
from stint.model.market import Offering, Pool, PoolName
from stint.model.offering import OfferingId
from stint.model.situation import Rates, Settings
from stint.placement.solvers import SOLVERS, remedy
from stint.sim.policies import POLICIES
from stint.sim.stage import Conditions, Stage
from stint.sim.trace import Models, Row, read_log
from stint.sim.workload import Habits, generate, jobs_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Where jobs can run."""

    offerings: tuple[Offering, ...]
    pools: tuple[Pool, ...]
    standing: Mapping[OfferingId, int]  # nodes that are there from the start to the end
    rates: Callable[[Iterable[Job]], Rates]  # that these jobs can meet


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """A scenario that can be run."""

    scenario: Scenario
    fleet: Fleet
    rows: tuple[Row, ...]
    manifests: tuple[Job, ...]

    def stage(self, seed: int) -> Stage:
        """What a run with these dice starts from."""
        s, rng = self.scenario, np.random.default_rng(seed)
        offerings = self.fleet.offerings
        rows = self.rows
        if (g := s.jobs.generate) is not None:
            gpus = tuple((int(k), v) for k, v in sorted(g.gpus.items()))
            gap, hours = g.mean_gap_hours, g.median_hours
            made = generate(g.count, mean_gap_hours=gap, median_hours=hours, sigma=g.sigma, gpus=gpus, rng=rng)
            rows = (*rows, *made)
        models = {o.gpu_model for o in offerings} | {r.gpu_model for r in rows}
        h = msgspec.structs.asdict(s.jobs.habits)
        speeds = h.pop("speeds") or Habits().speeds
        kept = {m: v for m, v in speeds.items() if m in models or m == h["reference"]}
        jobs = (*jobs_of(rows, Habits(**h, speeds=kept), start=s.start, rng=rng), *self.manifests)
        by_pool = {p.name: [o.id for o in offerings if o.pool == p.name] for p in s.fleet}
        return Stage(
            name=s.name,
            start=s.start.astimezone(UTC),
            offerings=offerings,
            pools=self.fleet.pools,
            standing=self.fleet.standing,
            jobs=jobs,
            rates=self.fleet.rates(jobs),
            settings=replace(Settings(), **msgspec.structs.asdict(s.settings)),
            conditions=Conditions(
                notice_s=s.world.notice_seconds,
                start_sigma=s.world.start_sigma,
                out_of_stock=s.world.out_of_stock,
                worker_failures_per_hour=s.world.worker_failures_per_hour,
                evictions_per_hour=s.world.evictions_per_hour,
                hung_starts=s.world.hung_starts,
                stock={o: p.stock for p in s.fleet if p.stock is not None for o in by_pool[p.name]},
                interruptions_per_hour={
                    o: r for p in s.fleet if (r := p.interruptions_per_hour) is not None for o in by_pool[p.name]
                },
            ),
            every_s=s.every_seconds,
            until_s=None if s.hours is None else s.hours * 3600.0,
        )


def read(path: Path) -> Read:
    """Read a scenario and the files that it names, which lie beside it.

    Raises:
        InvalidInputError: with every mistake in all of them.
    """
    scenario = _decode(path)
    mistakes = list(_senseless(scenario))
    fleet, catalogue = _fleet(scenario, scenario.start.date(), mistakes)
    rows: tuple[Row, ...] = ()
    if (trace := scenario.jobs.trace) is not None:
        try:
            lines = text_of(path.parent / trace.file, "jobs.trace.file").splitlines()
            models = Models(catalogue, scenario.jobs.habits.speeds or Habits().speeds)
            rows = read_log(lines, name=trace.file, models=models).rows[:: trace.every]
        except InvalidInputError as error:
            mistakes += [replace(m, path=f"{trace.file} {m.path}") for m in error.mistakes]
    jobs: list[Job] = []
    for i, some in enumerate(scenario.jobs.training_jobs):
        try:
            jobs += _jobs(path.parent / some.file, i, scenario.start + timedelta(hours=some.at_hours), catalogue)
        except InvalidInputError as error:
            mistakes += [replace(m, path=f"{error.what}, {m.path}") for m in error.mistakes]
    ids = Counter(j.id for j in jobs)
    twice = sorted(j for j, count in ids.items() if count > 1)
    mistakes += [Mistake("jobs.trainingJobs", j, "is there twice; every job needs a name of its own") for j in twice]
    if mistakes:
        raise InvalidInputError(str(path), mistakes)
    return Read(scenario=scenario, fleet=fleet, rows=rows, manifests=tuple(jobs))


def without_jobs(path: Path) -> Read:
    """Read a scenario for all but its jobs, which come from elsewhere; the files of its own are not looked at.

    Raises:
        InvalidInputError: with every mistake.
    """
    scenario = _decode(path)
    mistakes = [m for m in _senseless(scenario) if m.path != "jobs"]
    fleet, _ = _fleet(scenario, scenario.start.date(), mistakes)
    if mistakes:
        raise InvalidInputError(str(path), mistakes)
    jobs = JobsPart(habits=scenario.jobs.habits)
    return Read(scenario=msgspec.structs.replace(scenario, jobs=jobs), fleet=fleet, rows=(), manifests=())


def of_fleet(scenario: Scenario, today: date) -> Read:
    """A scenario that has no file and no jobs yet, at the prices of a day.

    Raises:
        InvalidInputError: with every mistake.
    """
    mistakes: list[Mistake] = []
    fleet, _ = _fleet(scenario, today, mistakes)
    if mistakes:
        raise InvalidInputError(scenario.name, mistakes)
    return Read(scenario=scenario, fleet=fleet, rows=(), manifests=())


def _fleet(scenario: Scenario, today: date, mistakes: list[Mistake]) -> tuple[Fleet, Catalogue]:
    """What a scenario's fleet is, and the catalogue with its prices; what is wrong is added to the mistakes."""
    catalogue, pools = bundled.load(), [_pool(p) for p in scenario.fleet]
    books = read_books([PriceBook(metadata=Meta(name="scenario"), spec=scenario.prices)] if scenario.prices else [])
    for book in books.each:
        if isinstance(book.wrong, InvalidInputError):
            mistakes += [replace(m, path=f"prices, {m.path}") for m in book.wrong.mistakes]
        elif book.wrong is not None:
            mistakes.append(Mistake("prices", "", str(book.wrong)))
    catalogue = books.on_top_of(catalogue)
    inventory = take_inventory((), pools, catalogue, today=today, limits=books.freshness)
    mistakes += [Mistake(p.about, p.reason, p.message) for p in inventory.problems]
    offerings = tuple(inventory.offerings.values())
    first = {o.pool: o.id for o in reversed(offerings)}
    return Fleet(
        offerings=offerings,
        pools=tuple(inventory.pools.values()),
        standing={first[PoolName(p.name)]: p.nodes for p in scenario.fleet if p.nodes and p.name in first},
        rates=lambda jobs: rates_of(jobs, offerings, catalogue),
    ), catalogue


def text_of(path: Path, about: str) -> str:
    """What a file says.

    Raises:
        InvalidInputError: it cannot be read.
    """
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        text = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInputError(str(path), [Mistake(about, str(path), f"cannot be read: {text}")]) from error


def _decode(path: Path) -> Scenario:
    try:
        data: Any = yaml_text.read(text_of(path, "the file"), number_keys=True)
    except yaml_text.YamlTextError as error:
        raise InvalidInputError(str(path), [Mistake("the file", str(error), "must be YAML")]) from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        found = data.get("format") if isinstance(data, dict) else type(data).__name__
        raise InvalidInputError(str(path), [Mistake("format", repr(found), f"must be {FORMAT!r}")])
    return reading.convert(data, Scenario, name=str(path))


def _senseless(s: Scenario) -> Iterable[Mistake]:
    if s.start.tzinfo is None:
        yield Mistake("start", s.start.isoformat(), "must have a time zone, as 2026-01-01T00:00:00Z")
    for i, name in enumerate(s.policies):
        if name not in POLICIES:
            yield Mistake(f"policies[{i}]", repr(name), f"must be one of {', '.join(POLICIES)}")
    if s.settings.solver not in SOLVERS:
        yield Mistake("settings.solver", repr(s.settings.solver), remedy(s.settings.solver))
    if s.hours is not None and not s.hours > 0:
        yield Mistake("hours", f"{s.hours:g}", "must be more than 0")
    names = [p.name for p in s.fleet]
    for i, pool in enumerate(s.fleet):
        if names.index(pool.name) < i:
            yield Mistake(f"fleet[{i}].name", repr(pool.name), "is there twice")
        for what in ("stock", "interruptions_per_hour"):
            value = getattr(pool, what)
            if value is not None and not value >= 0:
                yield Mistake(f"fleet[{i}].{what}", str(value), "must be 0 or more")
    habits = s.jobs.habits
    speeds = Habits().speeds if habits.speeds is None else habits.speeds
    if habits.reference not in speeds:
        yield Mistake("jobs.habits.reference", repr(habits.reference), f"has no speed; there are {sorted(speeds)}")
    for model, speed in speeds.items():
        if not 0 < speed < float("inf"):
            yield Mistake(f"jobs.habits.speeds.{model}", str(speed), "must be more than 0")
    for key, weight in (s.jobs.generate.gpus if s.jobs.generate else {}).items():
        if not key.isdigit() or int(key) < 1 or not weight >= 0:
            yield Mistake(f"jobs.generate.gpus.{key}", str(weight), "must be a number of GPUs, and 0 or more of them")
    if s.jobs.trace and s.jobs.generate:
        yield Mistake("jobs", "trace and generate", "give one of them: their ids might overlap")
    if not (s.jobs.trace or s.jobs.generate or s.jobs.training_jobs):
        yield Mistake("jobs", "nothing", "give a trace, generate some, or name trainingJobs")


def _pool(p: FleetPool) -> GPUPool:
    grows = p.max_nodes > 0
    return GPUPool(
        metadata=Meta(name=p.name),
        spec=PoolSpec(
            node_selector={"stint.dev/pool": p.name},
            offerings=p.offerings,
            limits=Limits(min_nodes=p.min_nodes, max_nodes=p.max_nodes) if grows else None,
            scaler=Scaler(adapter=KwokAdapter.traits.name, mode=Mode.ACT) if grows else None,
            cold_start_seconds=p.cold_start_seconds,
            give_back_after_seconds=p.give_back_after_seconds,
        ),
    )


def _jobs(path: Path, index: int, at: datetime, catalogue: Catalogue) -> Iterable[Job]:
    mistakes: list[Mistake] = []
    found = []
    documents = manifests.documents(text_of(path, f"jobs.trainingJobs[{index}].file"), name=str(path))
    for number, document in enumerate(documents, 1):
        if not isinstance(document, dict) or document.get("kind") != manifests.KIND:
            continue
        try:
            resource = manifests.training_job(document, number=number)
            found.append(to_job(resource, catalogue, Known(), created=at.astimezone(UTC)))
        except InvalidInputError as error:
            mistakes += [replace(m, path=f"{error.what} {m.path}") for m in error.mistakes]
    if mistakes:
        raise InvalidInputError(str(path), mistakes)
    return found
