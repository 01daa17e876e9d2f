"""status of a TrainingJob: what people are told, and what the next cycle has to remember."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from stint.api.ledger import Ledger
from stint.api.meta import Camel, Conditions
from stint.api.schema import doc
from stint.model.job import Phase


class Rejected(Camel, kw_only=True):
    """Why not there."""

    offering: Annotated[str, doc("Where.")]
    reason: Annotated[str, doc("The first constraint in the way.")]
    message: Annotated[str, doc("What it says.", max_length=1024)] = ""


class NextBest(Camel, kw_only=True):
    """The runner-up."""

    offering: Annotated[str, doc("Where it would have run instead.")]
    usd: Annotated[float, doc("What finishing would have cost there, in US dollars.")]
    usd_per_hour: Annotated[float, doc("While it runs, in US dollars.")] = 0.0


class Usage(Camel, kw_only=True):
    """What Prometheus measured."""

    gpu_ratio: Annotated[float | None, doc("Mean utilisation of its GPUs, 0 to 1; absent: unknown.")] = None
    watts: Annotated[float | None, doc("What its GPUs draw together; absent: unknown.")] = None
    idle_gpus: Annotated[int | None, doc("GPUs that did nothing lately; absent: unknown.")] = None
    work_ratio: Annotated[float | None, doc("Mean use of the tensor cores, 0 to 1; absent: unknown.")] = None
    processless_gpus: Annotated[int | None, doc("GPUs that no process has opened; absent: unknown.")] = None
    memory_gi_b: Annotated[float | None, doc("Most memory in use on one GPU, in GiB; absent: unknown.")] = (
        msgspec.field(default=None, name="memoryGiB")
    )
    measured_at: Annotated[datetime | None, doc("When this was measured.")] = None


class Progress(Camel, kw_only=True):
    """How far it is."""

    units_done: Annotated[float, doc("Units that survived so far, before the present run.")] = 0.0
    estimate: Annotated[float, doc("Units done by now, as estimated from its speed.")] = 0.0
    running_since: Annotated[datetime | None, doc("Since when the present run works.")] = None
    told: Annotated[float | None, doc("Units done as it said last; absent: it says nothing.")] = None
    told_at: Annotated[datetime | None, doc("Since when it says so.")] = None
    source: Annotated[str, doc("Who said it: Metric, Pods, TrainingJob or Workload; empty: an estimate.")] = ""


class Advice(Camel, kw_only=True):
    """A way to pay less for the same."""

    what: Annotated[str, doc("In one word: Idle, FewerWorkers, SmallerModel, Fraction.", max_length=32)]
    usd_per_hour: Annotated[float, doc("What it would save, in US dollars an hour.")]
    why: Annotated[str, doc("What was measured, and what to change.", max_length=1024)]


class Calibration(Camel, kw_only=True):
    """The speed on one GPU model, as stated and as measured."""

    gpu_model: Annotated[str, doc("Which model.")]
    stated: Annotated[float, doc("Units per second, by spec.work.unitsPerSecond.")]
    measured: Annotated[float, doc("Units per second, mean over the runs of its family.")]
    spread: Annotated[float, doc("Standard deviation of that.")] = 0.0
    runs: Annotated[int, doc("Over how many runs.")] = 0
    watts_per_gpu: Annotated[float | None, doc("Mean power of one GPU.")] = None
    used: Annotated[bool, doc("Whether decisions go by what was measured.")] = False
    text: Annotated[str, doc("The same, for people.", max_length=256)] = ""


class Blamed(Camel, kw_only=True):
    """A node that refused the gang."""

    node: Annotated[str, doc("Its name.", max_length=253)]
    offering: Annotated[str, doc("What it was when it refused the gang.", max_length=512)] = ""
    reason: Annotated[str, doc("Why the gang was requeued.", max_length=64)] = ""
    said: Annotated[str, doc("Against the node, in a word, such as UnexpectedAdmissionError.", max_length=64)] = ""
    since: Annotated[datetime, doc("When it refused the gang last.")]
    until: Annotated[datetime, doc("The job avoids it until then.")]
    generation: Annotated[int, doc("Of the spec that it refused; an edit clears the blame.")] = 0


class AdmittedStatus(Camel, kw_only=True):
    """What admission made of a worker's pod"""

    generation: Annotated[int, doc("Of the spec that the pods were made from.")]
    since: Annotated[datetime | None, doc("When it was seen; while the job waits, it counts for an hour.")] = None
    cpu: Annotated[float, doc("CPU cores that a worker asks for.", ge=0)]
    memory_gib: Annotated[float, doc("Memory in GiB that a worker asks for.", ge=0)] = msgspec.field(name="memoryGiB")
    resources: Annotated[dict[str, float], doc("Other resources by name, in base units.", max_length=64)] = {}
    node_selector: Annotated[dict[str, str], doc("Labels that its node must have.", max_length=64)] = {}


class Status(Camel, kw_only=True):
    """status"""

    observed_generation: Annotated[int, doc("Of the spec that this status speaks of.")] = 0
    phase: Annotated[
        str, doc("A summary for people; machines read the conditions.", extra={"enum": ["", *(p.value for p in Phase)]})
    ] = ""
    reason: Annotated[str, doc("Why it is in this phase, in one word.")] = ""
    message: Annotated[str, doc("Why, in a sentence, with money.", max_length=4096)] = ""
    pool: Annotated[str, doc("Node pool that it runs in or waits for.")] = ""
    offering: Annotated[str, doc("pool/instance type/zone/capacity type.")] = ""
    gpu_model: Annotated[str, doc("GPU model that it runs on or waits for.")] = ""
    gpus: Annotated[int, doc("GPUs, or parts of one, that it holds or waits for.")] = 0
    workers: Annotated[int, doc("Workers that it runs with or waits for.")] = 0
    ready_workers: Annotated[int, doc("Workers that run.")] = 0
    selector: Annotated[str, doc("Label selector of its pods, for the scale subresource.")] = ""
    nodes: Annotated[dict[str, str], doc("Nodes it holds, with the ranks on each.", max_length=4096)] = {}
    usd_per_hour: Annotated[str, doc("While it runs, in US dollars.")] = ""
    spent_usd: Annotated[str, doc("So far, in US dollars.")] = ""
    estimated_usd: Annotated[str, doc("From the beginning to the end, in US dollars.")] = ""
    budget_usd: Annotated[str, doc("spec.budget.usd, for the column.")] = ""
    saved_usd: Annotated[str, doc("Against the next best place, in US dollars.")] = ""
    energy_kwh: Annotated[str, doc("To finish, as estimated.")] = ""
    carbon_kg: Annotated[str, doc("CO2-equivalent to finish, as estimated, in kilograms.")] = ""
    finish: Annotated[datetime | None, doc("When it will be finished, as estimated.")] = None
    deadline: Annotated[datetime | None, doc("spec.deadline, or creation plus spec.within.")] = None
    slack: Annotated[str, doc("From the estimated finish to the deadline; negative: late.")] = ""
    next_best: Annotated[NextBest | None, doc("The runner-up.")] = None
    rejected: Annotated[list[Rejected], doc("Why not elsewhere: the ten that came nearest.", max_length=10)] = []
    usage: Annotated[Usage | None, doc("What Prometheus measured last.")] = None
    progress: Annotated[Progress, doc("How far it is.")] = msgspec.field(default_factory=Progress)
    spent_through: Annotated[datetime | None, doc("Until then it is booked, once and for all.")] = None
    spent_exactly: Annotated[float, doc("What is booked until then, in US dollars.", extra={"minimum": 0})] = 0.0
    ledger: Annotated[Ledger, doc("What for, where and on which day.")] = msgspec.field(default_factory=Ledger)
    retries: Annotated[int, doc("How often the gang started again after a worker failed.")] = 0
    rollbacks: Annotated[int, doc("How often a release did not hold.")] = 0
    taken_back: Annotated[
        datetime | None, doc("Places given until then are taken back, whether their pods are gone yet or not.")
    ] = None
    moved: Annotated[datetime | None, doc("When it was last taken back to run for less money elsewhere.")] = None
    moved_for: Annotated[str, doc("The job that it made room for then, as namespace/name.", max_length=317)] = ""
    not_before: Annotated[datetime | None, doc("Back-off: it does not compete until then.")] = None
    avoid: Annotated[
        list[str], doc("Names of the nodes in blamed that were avoided when it was written.", max_length=64)
    ] = []
    blamed: Annotated[
        list[Blamed], doc("Nodes that refused the gang lately, and until when it avoids them.", max_length=64)
    ] = []
    admitted: Annotated[
        AdmittedStatus | None,
        doc("What its pods ask for, where a LimitRange, a RuntimeClass or a webhook made it more than the template."),
    ] = None
    idle_since: Annotated[datetime | None, doc("Since when all of its GPUs do nothing.")] = None
    idle_held: Annotated[int, doc("Generation of the spec that was taken back as idle; editing it resumes.")] = 0
    advice: Annotated[list[Advice], doc("How to pay less for the same, most first.", max_length=4)] = []
    calibration: Annotated[list[Calibration], doc("What was measured of its speed.", max_length=16)] = []
    conditions: Conditions = []
