"""Scenario: the file that `stint simulate` reads. What is wrong with one is told all at once, by its JSON schema."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from stint.api.gpupool import PoolOffering
from stint.api.meta import Camel
from stint.api.pricebook import Spec as BookSpec
from stint.api.schema import doc
from stint.model.situation import Settings

FORMAT = "stint.dev/scenario/v1"
Fraction = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Strict(Camel, forbid_unknown_fields=True):
    pass


class FleetPool(_Strict, kw_only=True):
    """fleet[]"""

    name: Annotated[str, doc("Of the pool.", min_length=1, max_length=63)]
    offerings: Annotated[list[PoolOffering], doc("As in a GPUPool.", min_length=1, max_length=16)]
    nodes: Annotated[int, doc("Of the first offering, from the start to the end.", ge=0, le=10_000)] = 0
    max_nodes: Annotated[int, doc("It may grow to so many; 0: it does not.", ge=0, le=10_000)] = 0
    min_nodes: Annotated[int, doc("Never given back.", ge=0, le=10_000)] = 0
    cold_start_seconds: Annotated[float, doc("From order to ready node.", ge=0, le=86_400)] = 300.0
    give_back_after_seconds: Annotated[float, doc("A node may stand empty for so long.", ge=0, le=604_800)] = 600.0
    stock: Annotated[int | None, doc("Nodes that the provider has at a time; without it, enough.")] = None
    interruptions_per_hour: Annotated[float | None, doc("Of a spot node, as it is; without it, as believed.")] = None


class WorldPart(_Strict, kw_only=True):
    """world"""

    notice_seconds: Annotated[float, doc("Before a spot node is taken.", ge=0, le=86_400)] = 120.0
    start_sigma: Annotated[float, doc("How much cold starts vary: of their logarithm.", ge=0, le=3)] = 0.0
    out_of_stock: Annotated[Fraction, doc("Part of ordered nodes that never come.")] = 0.0
    worker_failures_per_hour: Annotated[
        float, doc("How often a worker fails by itself, per hour that it works.", ge=0, le=1000)
    ] = 0.0
    evictions_per_hour: Annotated[
        float, doc("How often a worker is evicted by something else, per hour that it works.", ge=0, le=1000)
    ] = 0.0
    hung_starts: Annotated[
        float, doc("Part of all starts in which one worker never runs, from 0 to less than 1.", ge=0, lt=1)
    ] = 0.0


class SettingsPart(_Strict, kw_only=True):
    """settings"""

    solver: Annotated[str, doc("As of `stint run --solver`.")] = Settings().solver
    start_seconds: Annotated[float, doc("Pods let go until they work.", ge=0, le=86_400)] = Settings().start_seconds
    moves_per_hour: Annotated[int, doc("As of `stint run`.", ge=0, le=10_000)] = 0
    payback: Annotated[float, doc("As of `stint run`.", ge=1, le=1000)] = Settings().payback
    reserve_seconds: Annotated[float, doc("As of `stint run --deadline-reserve`.", ge=0, le=86_400)] = (
        Settings().reserve_seconds
    )


class Trace(_Strict, kw_only=True):
    """jobs.trace"""

    file: Annotated[str, doc("CSV beside the scenario: see `stint.sim.trace`.", min_length=1)]
    every: Annotated[int, doc("Take every so-manieth job.", ge=1, le=1_000_000)] = 1


class Generate(_Strict, kw_only=True):
    """jobs.generate"""

    count: Annotated[int, doc("How many jobs.", ge=1, le=1_000_000)]
    mean_gap_hours: Annotated[float, doc("Between submissions.", ge=0, le=10_000)]
    median_hours: Annotated[float, doc("Of the durations.", gt=0, le=10_000)]
    sigma: Annotated[float, doc("Of their logarithm.", ge=0, le=5)] = 1.0
    gpus: Annotated[dict[str, float], doc("How many GPUs, and how often.", min_length=1, max_length=64)] = (
        msgspec.field(default_factory=lambda: {"1": 1.0})
    )


class HabitsPart(_Strict, kw_only=True):
    """jobs.habits"""

    reference: Annotated[str, doc("GPU model that the durations are meant on.")] = "A100-80GB"
    speeds: Annotated[dict[str, float] | None, doc("Of one GPU, by model; without it, rough ones.")] = None
    pinned: Annotated[Fraction, doc("Part of the jobs that only run on the reference.")] = 0.33
    spot: Annotated[Fraction, doc("Part that may be interrupted.")] = 0.5
    deadlines: Annotated[Fraction, doc("Part that has a deadline.")] = 0.33
    slack: Annotated[list[Annotated[float, msgspec.Meta(ge=1)]], doc("Deadlines, in durations.", max_length=64)] = (
        msgspec.field(default_factory=lambda: [1.2, 2.0, 10.0])
    )
    grace_hours: Annotated[float, doc("And so much more.", ge=0, le=10_000)] = 1.0
    gpus_per_worker: Annotated[int, doc("More GPUs than that make a gang.", ge=1, le=64)] = 8
    usd_per_hour: Annotated[float, doc("What a result an hour sooner is worth.", ge=0, le=1e6)] = 1.0


class Manifests(_Strict, kw_only=True):
    """jobs.trainingJobs[]"""

    file: Annotated[str, doc("YAML beside the scenario; what is no TrainingJob is left out.", min_length=1)]
    at_hours: Annotated[float, doc("When they are submitted.", ge=0, le=1e5)] = 0.0


class JobsPart(_Strict, kw_only=True):
    """jobs"""

    trace: Trace | None = None
    generate: Generate | None = None
    habits: HabitsPart = msgspec.field(default_factory=HabitsPart)
    training_jobs: list[Manifests] = []


class Scenario(_Strict, kw_only=True):
    """The whole file."""

    format: str
    name: Annotated[str, doc("For the report.", max_length=128)] = "scenario"
    start: Annotated[datetime, doc("When it begins, with a time zone; prices are as of that day.")]
    hours: Annotated[float | None, doc("For how long; without it, until the last job has ended.")] = None
    every_seconds: Annotated[float, doc("At most one decision in so long.", ge=1, le=86_400)] = 60.0
    policies: Annotated[list[str], doc("Which compete.", min_length=1)] = msgspec.field(
        default_factory=lambda: ["stint"]
    )
    seeds: Annotated[list[Annotated[int, msgspec.Meta(ge=0)]], doc("One run each.", min_length=1)] = msgspec.field(
        default_factory=lambda: [0]
    )
    fleet: list[FleetPool] = []
    prices: Annotated[BookSpec | None, doc("As a PriceBook's spec; without it, the catalogue's.")] = None
    world: WorldPart = msgspec.field(default_factory=WorldPart)
    settings: SettingsPart = msgspec.field(default_factory=SettingsPart)
    jobs: JobsPart
