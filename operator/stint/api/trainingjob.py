"""TrainingJob: one gang of workers that should finish for the least money."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from stint.accelerators import registry
from stint.api.meta import Camel, Meta
from stint.api.schema import doc
from stint.api.trainingjob_status import Status
from stint.api.worker_template import ANY, Template
from stint.model.job import OnExceed, OnIdle, OnMiss
from stint.model.measured import Aggregate
from stint.model.offering import CapacityType

_GPU = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
# What the API server takes for a date-time and nobody else does: the year 0, an offset of +99:99, a comma for a point.
_DATE_TIME = (
    r"^[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]+)?"
    r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)


class Elastic(Camel, kw_only=True):
    """spec.elastic"""

    min: Annotated[int, doc("Fewest workers that the job can run with.", ge=1, le=4096)]
    max: Annotated[int, doc("Most workers that it can use.", ge=1, le=4096)]


class Gpu(Camel, kw_only=True):
    """spec.gpu"""

    per_worker: Annotated[int, doc("GPUs of each worker; all on one node.", ge=1, le=16)] = 1
    fraction: Annotated[
        Annotated[float, msgspec.Meta(gt=0, lt=1)] | None,
        doc(
            "The part of one GPU that is enough for a worker, as 0.25; the speeds are meant with that. On nodes whose "
            "GPUs are shared (time-slicing, MPS, MIG) it is charged its part, on others a whole GPU."
        ),
    ] = None
    models: Annotated[
        list[_GPU],
        doc(
            "GPU models that will do, in any order; empty: every model that spec.work.unitsPerSecond has a speed for. "
            "Names as in `stint prices --gpus`: A100-80GB, H100, L40S, ...",
            max_length=32,
            extra={"x-kubernetes-list-type": "set"},
        ),
    ] = []
    memory_gi_b: Annotated[
        Annotated[float, msgspec.Meta(ge=0, le=4096)] | None,
        doc("The least memory that a single GPU must have, or a worker's part of one, in GiB."),
    ] = msgspec.field(default=None, name="memoryGiB")
    resource: Annotated[
        str,
        doc("The extended resource that a worker asks for.", max_length=128, pattern="^[a-z0-9.-]+/[A-Za-z0-9._-]+$"),
    ] = registry.DEFAULT.resource


class Work(Camel, kw_only=True):
    """spec.work"""

    units: Annotated[float, doc("How much there is to do, in units of your choice.", gt=0, le=1e18)]
    unit: Annotated[str, doc("What a unit is: step, epoch, sample, token.", min_length=1, max_length=32)] = "step"
    units_per_second: Annotated[
        dict[str, Annotated[float, msgspec.Meta(gt=0, le=1e15)]],
        doc(
            "How fast the whole job goes on each GPU model, with spec.workers workers. Stint compares dollars to "
            "finish, so a model without a speed is not considered.",
            min_length=1,
            max_length=32,
        ),
    ]
    scaling_exponent: Annotated[
        float,
        doc(
            "How speed grows with workers in an elastic job: speed(w) = speed(workers) x (w / workers)^this. "
            "1 is perfect scaling.",
            ge=0,
            le=1,
        ),
    ] = 0.9


class Checkpoint(Camel, kw_only=True):
    """spec.checkpoint"""

    every_minutes: Annotated[float, doc("How often the job writes a checkpoint, in minutes.", gt=0, le=100_000)]
    takes_seconds: Annotated[float, doc("How long it stands still for that, in seconds.", ge=0, le=86_400)] = 0.0
    restart_seconds: Annotated[
        float, doc("From new nodes until it works again from a checkpoint, in seconds.", ge=0, le=86_400)
    ] = 120.0


class Budget(Camel, kw_only=True):
    """spec.budget"""

    usd: Annotated[float, doc("US dollars that the job may cost, from the first attempt to the end.", gt=0, le=1e9)]
    on_exceed: Annotated[
        OnExceed,
        doc(
            "What happens when the job has spent usd while it runs: Warn sets condition AtRisk; CheckpointAndStop "
            "requeues the gang from its last checkpoint (the workers get SIGTERM) and holds it until usd is raised."
        ),
    ] = OnExceed.CHECKPOINT_AND_STOP


class Objective(Camel, kw_only=True):
    """spec.objective"""

    performance: Annotated[float, doc("Alpha: weight of time, valued at usdPerHour.", ge=0, le=1000)] = 1.0
    cost: Annotated[float, doc("Beta: weight of the dollars that finishing costs.", ge=0, le=1000)] = 1.0
    usd_per_hour: Annotated[
        float, doc("What having the result an hour sooner is worth, in US dollars.", ge=0, le=1e6)
    ] = 1.0
    lateness_usd_per_hour: Annotated[
        float, doc("What each hour past the deadline costs in addition, in US dollars.", ge=0, le=1e6)
    ] = 0.0


class Data(Camel, kw_only=True):
    """spec.data"""

    gi_b: Annotated[float, doc("Size of the training data, in GiB.", ge=0, le=1e9)] = msgspec.field(
        default=0.0, name="gib"
    )
    at: Annotated[
        str,
        doc("Where it lies: provider/region, as aws/us-east-1.", max_length=128, pattern="^([a-z0-9-]+/[a-z0-9-]+)?$"),
    ] = ""
    may_leave_region: Annotated[bool, doc("False: the job runs only where its data lies.")] = True
    scratch_gi_b: Annotated[float, doc("Block storage rented while the job runs, in GiB.", ge=0, le=1e7)] = (
        msgspec.field(default=0.0, name="scratchGiB")
    )


class Topology(Camel, kw_only=True):
    """spec.topology"""

    within: Annotated[
        str,
        doc(
            "The label of nodes whose value all workers must share: kubernetes.io/hostname, "
            "topology.kubernetes.io/zone, or that of a rack or block.",
            max_length=317,
            pattern="^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
        ),
    ]
    required: Annotated[bool, doc("False: where possible, else wherever there is room.")] = True


class ProgressMetric(Camel, kw_only=True):
    """spec.progress.metric"""

    name: Annotated[
        str,
        doc(
            "Its name in Prometheus, as train_steps_total. Its value is the units done since the job began.",
            max_length=200,
            pattern="^[a-zA-Z_:][a-zA-Z0-9_:]*$",
        ),
    ]
    labels: Annotated[
        dict[str, Annotated[str, msgspec.Meta(max_length=256)]],
        doc(
            "Labels that its series must have. Without any, the series of the job's own pods count.",
            max_length=8,
            cel=(
                (
                    "self.all(k, k.matches('^[a-zA-Z_][a-zA-Z0-9_]*$'))",
                    "labels of Prometheus are made of letters, digits and _",
                ),
            ),
        ),
    ] = {}
    aggregate: Annotated[Aggregate, doc("Max: each worker counts the whole job's units. Sum: each counts its own.")] = (
        Aggregate.MAX
    )


class ProgressSource(Camel, kw_only=True):
    """spec.progress"""

    metric: Annotated[
        ProgressMetric | None,
        doc("A metric of yours in Prometheus. Without it the annotation stint.dev/units-done is heeded."),
    ] = None


class IdlePolicy(Camel, kw_only=True):
    """spec.idlePolicy"""

    action: Annotated[
        OnIdle,
        doc(
            "What happens when all of its GPUs have done nothing for so long: Advise says so; Checkpoint takes the "
            "gang back to its last checkpoint and holds it until its spec is edited; Stop ends it. Never where it is "
            "not known."
        ),
    ] = OnIdle.ADVISE
    after_minutes: Annotated[float, doc("For how long, in minutes.", gt=0, le=10_080)] = 30.0


class Steers(Camel, kw_only=True):
    """spec.steers"""

    kind: Annotated[
        str,
        doc(
            "What makes the pods: Job, JobSet, PyTorchJob, RayCluster, ...; Group for pods labelled stint.dev/group.",
            min_length=1,
            max_length=63,
        ),
    ]
    name: Annotated[
        str, doc("Its name, or the group's; of a LeaderWorkerSet NAME-INDEX.", min_length=1, max_length=253)
    ]


SPEC_RULES = (
    (
        "(has(self.template) ? 1 : 0) + (has(self.podTemplate) ? 1 : 0) + (has(self.steers) ? 1 : 0) == 1",
        "give exactly one of spec.template, spec.podTemplate and spec.steers",
    ),
    ("!has(self.steers) || !has(self.elastic)", "whoever makes the pods of spec.steers decides how many; drop elastic"),
    (
        "!has(self.steers) || self.idlePolicy.action != 'Stop'",
        "whoever makes the pods of spec.steers ends them; spec.idlePolicy.action may be Advise or Checkpoint",
    ),
    ("!(has(self.deadline) && has(self.within))", "give either spec.deadline or spec.within, not both"),
    ("!has(self.elastic) || self.elastic.min <= self.elastic.max", "spec.elastic.min must not be larger than max"),
    (
        "!has(self.elastic) || (self.elastic.min <= self.workers && self.workers <= self.elastic.max)",
        "spec.workers is the size that the speeds are meant at; it must lie between spec.elastic.min and max",
    ),
    (
        "!has(self.gpu.fraction) || self.gpu.perWorker == 1",
        "spec.gpu.fraction is a part of one GPU; leave it out, or set spec.gpu.perWorker to 1",
    ),
    (
        "!has(self.gpu.fraction) || !has(self.steers)",
        "whoever makes the pods of spec.steers decides what they ask for; drop spec.gpu.fraction",
    ),
    (
        "!has(self.gpu.models) || size(self.gpu.models) == 0 || "
        "self.gpu.models.exists(m, m in self.work.unitsPerSecond)",
        "no model of spec.gpu.models has a speed in spec.work.unitsPerSecond; add one, so that finishing has a price",
    ),
    (
        "!has(self.data) || self.data.gib == 0.0 || self.data.at != ''",
        "spec.data.gib without spec.data.at: say where the data lies, as aws/us-east-1",
    ),
    (
        "!has(self.data) || self.data.mayLeaveRegion || self.data.at != ''",
        "spec.data.mayLeaveRegion is false: say in spec.data.at which region it must not leave",
    ),
)


class Spec(Camel, kw_only=True):
    """spec"""

    workers: Annotated[int, doc("Pods of the gang; they start together or not at all.", ge=1, le=4096)] = 1
    elastic: Annotated[Elastic | None, doc("The job also runs with fewer or more workers.")] = None
    gpu: Annotated[Gpu, doc("What each worker needs.")] = msgspec.field(default_factory=Gpu)
    work: Annotated[Work, doc("How much there is to do and how fast it goes on what.")]
    checkpoint: Annotated[
        Checkpoint | None, doc("How it survives losing its nodes. Without it an interruption loses everything.")
    ] = None
    capacity_types: Annotated[
        list[CapacityType],
        doc(
            "What it may run on.",
            min_length=1,
            max_length=4,
            extra={"x-kubernetes-list-type": "set", "default": [c.value for c in CapacityType]},
        ),
    ] = msgspec.field(default_factory=lambda: list(CapacityType))
    deadline: Annotated[
        datetime | None, doc("When it must be finished, as 2026-12-01T08:00:00Z.", extra={"pattern": _DATE_TIME})
    ] = None
    within: Annotated[
        Annotated[str, msgspec.Meta(max_length=16, pattern=r"^[1-9][0-9]*(s|m|h|d)$")] | None,
        doc("Instead of deadline: so long after its creation, as 90m, 24h or 3d."),
    ] = None
    on_deadline_miss: Annotated[
        OnMiss, doc("When nothing can meet the deadline any more: Run it late and say so, or Hold it.")
    ] = OnMiss.RUN
    budget: Annotated[Budget | None, doc("What it may cost.")] = None
    objective: Annotated[
        Objective, doc("J = performance x usdPerHour x hours + cost x dollars; the smallest J wins.")
    ] = msgspec.field(default_factory=Objective)
    data: Annotated[Data | None, doc("Where its data lies: moving it costs money too.")] = None
    topology: Annotated[Topology | None, doc("How near to each other the workers must be.")] = None
    licences: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=63)]],
        doc(
            "Licences it uses while it runs, by their names in a PriceBook.",
            max_length=16,
            extra={"x-kubernetes-list-type": "set"},
        ),
    ] = []
    progress: Annotated[
        ProgressSource | None, doc("Who says how far it is. Otherwise that is estimated from its speed.")
    ] = None
    idle_policy: Annotated[IdlePolicy, doc("What happens to it when its GPUs do nothing.")] = msgspec.field(
        default_factory=IdlePolicy
    )
    priority: Annotated[int, doc("Higher is served first.", ge=-1000, le=1000)] = 0
    queue: Annotated[str, doc("A name to select jobs by.", max_length=63)] = "default"
    suspend: Annotated[bool, doc("True: give the nodes back and wait until this is false again.")] = False
    retries: Annotated[int, doc("How often a gang with a failed worker starts again.", ge=0, le=100)] = 3
    placement_timeout_seconds: Annotated[
        int, doc("How long released workers may take to start before all are taken back.", ge=5, le=3600)
    ] = 120
    node_grace_seconds: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=86_400)] | None,
        doc(
            "How long a node of the running gang may be not ready before the gang is requeued, in seconds. By default "
            "what the operator is told (nodeGraceSeconds of the chart)."
        ),
    ] = None
    template: Annotated[Template | None, doc("The worker pod.")] = None
    pod_template: Annotated[ANY | None, doc("Instead of template: any core/v1 PodTemplateSpec, unchecked here.")] = None
    steers: Annotated[
        Steers | None,
        doc("Instead of both: pods that something else makes. Stint writes such jobs itself; see STEERING.md."),
    ] = None


class TrainingJob(Camel, kw_only=True):
    """One object as the API server hands it over."""

    metadata: Meta
    spec: Spec
    status: Status = msgspec.field(default_factory=Status)
