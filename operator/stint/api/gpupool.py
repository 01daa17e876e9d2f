"""GPUPool: nodes that are resized as one. Only needed to resize nodes, or to say what their labels do not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from stint.api.meta import Camel, Conditions, Meta
from stint.api.schema import doc
from stint.capacity.adapter import Target, Traits
from stint.capacity.registry import ADAPTERS
from stint.model.offering import CapacityType

if TYPE_CHECKING:
    AdapterName = str
else:
    AdapterName = Literal[tuple(ADAPTERS)]  # so that an adapter that does not exist is refused

MOST_ORDERS, MOST_ORDER_JOBS, MOST_ORDER_NODES = 32, 128, 256  # that a status keeps
MOST_REFUSED = 64
MOST_BOUGHT = 2 * MOST_ORDERS  # orders, of which a status keeps the nodes that stand unused
_NAME = Annotated[str, msgspec.Meta(max_length=128)]


class Mode(StrEnum):
    """What Stint does with its decisions about a pool."""

    ADVISE = "Advise"
    ACT = "Act"


class PoolOffering(Camel, kw_only=True):
    """spec.offerings[]"""

    provider: Annotated[str, doc("Who sells it: aws, gcp, azure, ..., or on-premises.", min_length=1, max_length=64)]
    region: Annotated[str, doc("The provider's region.", max_length=64)] = ""
    zone: Annotated[str, doc("The provider's zone; the region may be left out then.", max_length=64)] = ""
    instance_type: Annotated[
        str, doc("The provider's instance type, or a name of your own.", min_length=1, max_length=64)
    ]
    capacity_type: Annotated[CapacityType, doc("on-demand, spot, reserved or owned.")] = CapacityType.ON_DEMAND
    gpu_model: Annotated[
        str,
        doc(
            "Where the catalogue does not know the instance type. A model that the catalogue lacks is taken under this "
            "name, with gpus, cpu, memoryGiB and gpuMemoryGiB.",
            max_length=64,
        ),
    ] = ""
    gpus: Annotated[int, doc("GPUs of a node, where the catalogue does not know.", ge=0, le=64)] = 0
    gpu_memory_gib: Annotated[float, doc("Memory of one GPU in GiB, likewise.", ge=0, le=4096)] = msgspec.field(
        default=0.0, name="gpuMemoryGiB"
    )
    cpu: Annotated[float, doc("Allocatable CPU cores of a node, likewise.", ge=0, le=4096)] = 0.0
    memory_gib: Annotated[float, doc("Allocatable memory of a node in GiB, likewise.", ge=0, le=65_536)] = (
        msgspec.field(default=0.0, name="memoryGiB")
    )


class TargetRef(Camel, kw_only=True):
    """spec.scaler.target"""

    api_version: Annotated[str, doc("As cluster.x-k8s.io/v1beta2.", min_length=1, max_length=128)]
    resource: Annotated[str, doc("Plural name of the resource, as machinedeployments.", min_length=1, max_length=63)]
    namespace: Annotated[str, doc("Its namespace; empty for cluster-wide ones.", max_length=63)] = ""
    name: Annotated[str, doc("Its name.", min_length=1, max_length=253)]


class Scaler(Camel, kw_only=True):
    """spec.scaler"""

    adapter: Annotated[
        AdapterName,
        doc(" ".join(f"{name}: {a.traits.about}." for name, a in ADAPTERS.items()), extra={"enum": list(ADAPTERS)}),
    ]
    mode: Annotated[Mode, doc("Advise: write recommendations into status, change nothing. Act: do it.")] = Mode.ADVISE
    target: Annotated[TargetRef | None, doc("What the Scale adapter scales.")] = None


def target_of(scaler: Scaler) -> Target | None:
    """As adapters take it."""
    t = scaler.target
    if t is None:
        return None
    return Target(api_version=t.api_version, resource=t.resource, namespace=t.namespace, name=t.name)


class Limits(Camel, kw_only=True):
    """spec.limits"""

    min_nodes: Annotated[int, doc("Scale-down keeps at least this many nodes.", ge=0, le=10_000)] = 0
    max_nodes: Annotated[int, doc("Scale-up never exceeds this many nodes.", ge=0, le=10_000)]


class Spec(Camel, kw_only=True):
    """spec"""

    node_selector: Annotated[
        dict[str, Annotated[str, msgspec.Meta(max_length=63)]],
        doc("Labels of the nodes that belong to the pool.", min_length=1, max_length=16),
    ]
    offerings: Annotated[
        list[PoolOffering],
        doc("Offerings of new nodes. With exactly one, nodes that match it count as it, too.", max_length=16),
    ] = []
    limits: Annotated[Limits | None, doc("Smallest and largest size of the pool.")] = None
    scaler: Annotated[Scaler | None, doc("How the pool is resized. Without it, Stint never resizes the pool.")] = None
    cold_start_seconds: Annotated[float, doc("Seconds from an order to a ready node.", ge=0, le=86_400)] = 300.0
    give_back_after_seconds: Annotated[
        float, doc("Seconds that a node may stay empty before scale-down.", ge=0, le=604_800)
    ] = 600.0


def _rules_of(traits: Traits) -> Iterator[tuple[str, str]]:
    """What a pool with this adapter must say."""
    needs = {
        "has(self.scaler.target)": ("spec.scaler.target", traits.needs_target),
        "has(self.offerings) && size(self.offerings) == 1": (
            "exactly one offering because the target has one kind of node",
            traits.one_offering,
        ),
    }
    if wanted := {rule: text for rule, (text, needed) in needs.items() if needed}:
        yield (
            f"!has(self.scaler) || self.scaler.adapter != '{traits.name}' || ({' && '.join(wanted)})",
            f"the {traits.name} adapter needs {', and '.join(wanted.values())}",
        )


SPEC_RULES = (
    ("!has(self.scaler) || has(self.limits)", "spec.scaler without spec.limits: say how many nodes there may be"),
    (
        "!has(self.scaler) || (has(self.offerings) && size(self.offerings) > 0)",
        "spec.scaler without spec.offerings: say what a new node is",
    ),
    *(rule for adapter in ADAPTERS.values() for rule in _rules_of(adapter.traits)),
    (
        "!has(self.limits) || self.limits.minNodes <= self.limits.maxNodes",
        "spec.limits.minNodes must not be larger than maxNodes",
    ),
    (
        "!has(self.offerings) || self.offerings.all(o, o.region != '' || o.zone != '' || o.capacityType == 'owned')",
        "every offering needs a region or a zone, so that it has a price; owned ones do not",
    ),
)


class Recommendation(Camel, kw_only=True):
    """status.recommendation"""

    nodes: Annotated[int, doc("Recommended number of nodes.")]
    usd_per_hour: Annotated[str, doc("Change of the bill, in US dollars per hour.")] = ""
    message: Annotated[str, doc("Why.", max_length=1024)] = ""


class NewNode(Camel, kw_only=True):
    """What nodes of an offering were seen with, which its next node is expected to have"""

    offering: Annotated[str, doc("pool/instance type/zone/capacity type.")]
    nodes: Annotated[int, doc("Nodes that this was seen of.")] = 1
    generation: Annotated[int, doc("Of the pool's spec when it was seen; an edit makes it void.")] = 0
    cpu: Annotated[float, doc("Allocatable CPU cores, the least of them.")]
    memory_gib: Annotated[float, doc("Allocatable memory in GiB, the least of them.")] = msgspec.field(name="memoryGiB")
    pods: Annotated[int, doc("Pods that fit.")] = 110
    resources: Annotated[dict[str, float], doc("Other resources by name, in base units.", max_length=64)] = {}
    labels: Annotated[dict[str, str], doc("Labels that all of them have.", max_length=64)] = {}
    taints: Annotated[list[str], doc("Taints that all of them have, as key=value:effect.", max_length=64)] = []


class Payer(Camel, kw_only=True):
    """A job that pays for what was bought for it"""

    job: Annotated[str, doc("As namespace/name.")]
    uid: Annotated[str, doc("Of its TrainingJob.", max_length=64)]
    share: Annotated[float, doc("Its part of each node, 0 to 1.", ge=0, le=1)] = 1.0


class NodeOrder(Camel, kw_only=True):
    """An order of nodes that has not shown yet whether it helps the jobs that it was made for"""

    offering: Annotated[str, doc("pool/instance type/zone/capacity type.")]
    nodes: Annotated[int, doc("Nodes ordered.", ge=0)]
    at: Annotated[datetime, doc("Time of the order.")]
    jobs: Annotated[list[str], doc("Jobs that wait for it, as namespace/name.", max_length=MOST_ORDER_JOBS)] = []
    payers: Annotated[
        list[Payer],
        doc(
            "Jobs that pay for its nodes until a gang is on them; none where they cost nothing extra.",
            max_length=MOST_ORDER_JOBS,
        ),
    ] = []
    came: Annotated[list[str], doc("Nodes that came of it.", max_length=MOST_ORDER_NODES)] = []
    why: Annotated[str, doc("What seems to keep its jobs off those nodes.", max_length=1024)] = ""


class UnusedNode(Camel, kw_only=True):
    """A node that was bought for a job and that no gang had been on"""

    name: Annotated[str, doc("Its name.", max_length=253)]
    uid: Annotated[str, doc("Which one of that name.", max_length=64)]
    since: Annotated[datetime, doc("It exists since then.")]
    until: Annotated[
        datetime | None, doc("Since then a gang is on it, or it is gone; absent: it is there and unused.")
    ] = None


class Bought(Camel, kw_only=True):
    """The nodes of one order, as long as they are not booked for good as held by the jobs that they were bought for"""

    offering: Annotated[str, doc("pool/instance type/zone/capacity type.")]
    at: Annotated[datetime, doc("Time of the order.")]
    payers: Annotated[list[Payer], doc("Jobs that pay for them.", max_length=MOST_ORDER_JOBS)] = []
    nodes: Annotated[list[UnusedNode], doc("Those that came.", max_length=MOST_ORDER_NODES)] = []
    missing: Annotated[int, doc("Nodes that have not come; they may, for an hour after the order.", ge=0)] = 0


class RefusedNode(Camel, kw_only=True):
    """A node that was bought for a job and did not let it start: no such node is bought again for such a job"""

    offering: Annotated[str, doc("pool/instance type/zone/capacity type.")]
    job: Annotated[str, doc("The job, as namespace/name.")]
    generation: Annotated[int, doc("Of the job's spec.")]
    gpus: Annotated[int, doc("Requests of one worker: GPUs.")] = 0
    cpu: Annotated[float, doc("CPU cores.")] = 0.0
    memory_gib: Annotated[float, doc("Memory in GiB.")] = msgspec.field(default=0.0, name="memoryGiB")
    resources: Annotated[dict[str, float], doc("Other resources by name.", max_length=64)] = {}
    demands: Annotated[str, doc("Digest of what the job demands of nodes: labels, tolerations, volumes.")] = ""
    shape: Annotated[str, doc("Digest of what was known of new nodes of the offering.")] = ""
    message: Annotated[str, doc("Why the job could not start.", max_length=1024)] = ""
    since: Annotated[datetime, doc("When this was found out.")]
    until: Annotated[datetime, doc("No such node is ordered before.")]
    times: Annotated[int, doc("How often in a row: each doubles the back-off.")] = 1


class LateOrder(Camel, kw_only=True):
    """An offering whose nodes did not come as ordered: none is ordered for a while"""

    offering: Annotated[str, doc("pool/instance type/zone/capacity type.")]
    message: Annotated[str, doc("What became of the order.", max_length=1024)] = ""
    since: Annotated[datetime, doc("When this was found out.")]
    until: Annotated[datetime, doc("No node of it is ordered before.")]
    times: Annotated[int, doc("How often in a row: each doubles the back-off.")] = 1


class Status(Camel, kw_only=True):
    """status"""

    observed_generation: Annotated[int, doc("Of the spec that this status speaks of.")] = 0
    gpu_model: Annotated[str, doc("GPU model of its nodes.")] = ""
    nodes: Annotated[int, doc("Number of nodes.")] = 0
    nodes_text: Annotated[str, doc("Number of nodes, of the most allowed.")] = ""
    wanted_nodes: Annotated[int | None, doc("Nodes of the whole pool that Stint last requested.")] = None
    gpus: Annotated[int, doc("GPUs of all nodes.")] = 0
    free_gpus: Annotated[int, doc("Unallocated GPUs of usable nodes.")] = 0
    usd_per_gpu_hour: Annotated[str, doc("Price per GPU and hour, in US dollars.")] = ""
    price_source: Annotated[str, doc("Source of the price.")] = ""
    price_date: Annotated[str, doc("Date of the price.")] = ""
    scaler: Annotated[str, doc("Adapter and mode.")] = ""
    recommendation: Annotated[Recommendation | None, doc("In mode Advise: the resize that Stint recommends.")] = None
    new_nodes: Annotated[
        list[NewNode], doc("What nodes of its offerings were seen with: what the next ones will have.", max_length=16)
    ] = []
    ordered_at: Annotated[datetime | None, doc("Time of the last request.")] = None
    orders: Annotated[
        list[NodeOrder], doc("Orders that have not shown yet whether they help.", max_length=MOST_ORDERS)
    ] = []
    bought: Annotated[
        list[Bought],
        doc(
            "Bought nodes that no gang has been on: the jobs that they were bought for pay for them.",
            max_length=MOST_BOUGHT,
        ),
    ] = []
    refused: Annotated[
        list[RefusedNode], doc("Bought nodes on which the job could not start.", max_length=MOST_REFUSED)
    ] = []
    late: Annotated[list[LateOrder], doc("Offerings whose nodes did not come as ordered.", max_length=16)] = []
    conditions: Conditions = []


class GPUPool(Camel, kw_only=True):
    """One object as the API server hands it over."""

    metadata: Meta
    spec: Spec
    status: Status = msgspec.field(default_factory=Status)
