"""What nodes are, from what their labels say: which offering each is, and which pool it belongs to.

Nodes whose labels tell instance type, zone and capacity type form inferred pools, so that no pool object is needed
to start. A GPUPool takes the nodes that its selector matches and says what new ones would be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from stint.accelerators import registry
from stint.accelerators.unsupported import UNSUPPORTED
from stint.api.gpupool import GPUPool, Mode, NewNode, PoolOffering
from stint.catalogue.catalogue import Catalogue
from stint.catalogue.commitments import with_commitments
from stint.catalogue.hardware import InstanceType
from stint.catalogue.names import nearest
from stint.catalogue.quote import FreshnessLimits, Machine, quote
from stint.catalogue.reserved import allocatable as allocatable_of
from stint.kube.observe.own_models import with_own_models
from stint.kube.records import NodeRecord
from stint.model.cluster import HOSTNAME, INTERRUPTED_TAINTS, ZONE
from stint.model.job import NodeName
from stint.model.market import Offering, Pool, PoolName, Slices, Taint
from stint.model.offering import CapacityType, OfferingId
from stint.model.resources import Resources

INSTANCE_TYPE = "node.kubernetes.io/instance-type"
REGION, ZONE_ID = "topology.kubernetes.io/region", "topology.k8s.aws/zone-id"
PROVIDER, CAPACITY = "stint.dev/provider", "stint.dev/capacity-type"
POOL = "stint.dev/pool"

# By which drivers of volumes name a node's zone.
CSI_ZONES = {
    "aws": "topology.ebs.csi.aws.com/zone",
    "gcp": "topology.gke.io/zone",
    "azure": "topology.disk.csi.azure.com/zone",
}
_PROVIDER_OF_ID = {"aws": "aws", "gce": "gcp", "azure": "azure", "oci": "oci"}
_POOL_LABELS = (
    POOL,
    "karpenter.sh/nodepool",
    "eks.amazonaws.com/nodegroup",
    "cloud.google.com/gke-nodepool",
    "kubernetes.azure.com/agentpool",
)
_CAPACITY_LABELS = (
    CAPACITY,
    "karpenter.sh/capacity-type",
    "eks.amazonaws.com/capacityType",
    "cloud.google.com/gke-provisioning",
)
_CAPACITY_WORDS = {
    "on-demand": CapacityType.ON_DEMAND,
    "standard": CapacityType.ON_DEMAND,
    "spot": CapacityType.SPOT,
    "preemptible": CapacityType.SPOT,
    "reserved": CapacityType.RESERVED,
    "capacity-block": CapacityType.RESERVED,
    "owned": CapacityType.OWNED,
}
_SPOT_FLAGS = (
    ("cloud.google.com/gke-spot", "true"),
    ("cloud.google.com/gke-preemptible", "true"),
    ("kubernetes.azure.com/scalesetpriority", "spot"),
)
# Such nodes are going or not quite there: nothing is placed on them.
LEAVING_TAINTS = frozenset({"karpenter.sh/disrupted", "ToBeDeletedByClusterAutoscaler"})
UNREADY_TAINTS = frozenset({"karpenter.sh/unregistered", "node.cloudprovider.kubernetes.io/uninitialized"})
# What a node carries only while it changes state, and what is told of it in other ways: `Node.ready`, `schedulable`.
# The taints of pressure (memory, disk, processes) and of a network that is not there keep pods away like any other.
_PASSING_TAINTS = (
    LEAVING_TAINTS
    | UNREADY_TAINTS
    | INTERRUPTED_TAINTS
    | {f"node.kubernetes.io/{what}" for what in ("not-ready", "unreachable", "unschedulable", "out-of-service")}
)
STATE_PREFIX = "node.kubernetes.io/"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeIssue:
    """Something about a node or a pool that a person should mend."""

    about: str  # "node gpu-17", "GPUPool a100"
    reason: str
    message: str
    pools: tuple[str, ...] = ()  # GPUPools that are concerned
    node: NodeRecord | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Every offering there is or could be, every pool, and which offering each node is."""

    offerings: Mapping[OfferingId, Offering] = field(default_factory=dict)
    pools: Mapping[PoolName, Pool] = field(default_factory=dict)
    offering_of: Mapping[NodeName, OfferingId] = field(default_factory=dict)
    described: Mapping[PoolName, tuple[OfferingId, ...]] = field(default_factory=dict)  # what new nodes are
    members: Mapping[PoolName, frozenset[NodeName]] = field(default_factory=dict)  # also nodes that are no offering
    problems: tuple[NodeIssue, ...] = ()
    kept: Mapping[NodeName, str] = field(default_factory=dict)  # nodes that count as what they were, and why
    new_nodes: Mapping[PoolName, tuple[NewNode, ...]] = field(default_factory=dict)  # what its next ones will be like


def take_inventory(
    nodes: Iterable[NodeRecord],
    gpu_pools: Iterable[GPUPool],
    catalogue: Catalogue,
    *,
    today: date,
    limits: FreshnessLimits,
    now: datetime | None = None,
    last_known: Mapping[NodeName, Machine] | None = None,
) -> Inventory:
    """Pure: the same records give the same inventory.

    Args:
        now: when; without it the catalogue's commitments are left out, which hold from an instant to another.
        last_known: what nodes were that must not be forgotten, as gangs run there.
    """
    own = sorted(gpu_pools, key=lambda p: p.metadata.name)
    nodes = tuple(nodes)
    catalogue = with_own_models(catalogue, nodes, own)
    problems: list[NodeIssue] = []
    offerings: dict[OfferingId, Offering] = {}
    offering_of: dict[NodeName, OfferingId] = {}
    seen: dict[OfferingId, list[tuple[Machine, NodeRecord | None]]] = {}
    members: dict[PoolName, dict[OfferingId, None]] = {PoolName(p.metadata.name): {} for p in own}
    for pool in own:
        for i, described in enumerate(pool.spec.offerings):
            machine = _described(pool, described, catalogue)
            if isinstance(machine, NodeIssue):
                about = f"GPUPool {pool.metadata.name} spec.offerings[{i}]"
                problems.append(replace(machine, about=about, pools=(pool.metadata.name,)))
                continue
            offering = quote(machine, catalogue, today=today, limits=limits)
            offerings[offering.id] = offering
            members[offering.pool][offering.id] = None
    records = sorted(nodes, key=lambda n: n.name)
    new_ones = {name: tuple(ids) for name, ids in members.items()}
    of_pool: dict[PoolName, set[NodeName]] = {name: set() for name in members}
    for node in records:
        claims = [p for p in own if _matches(p.spec.node_selector, node.labels)]
        for pool in claims:
            of_pool[PoolName(pool.metadata.name)].add(NodeName(node.name))
        if node.allocatable.gpus == 0 and not node.slices and not _hints_at_gpus(node):
            if node.device in UNSUPPORTED:
                problems.append(_unsupported(node, claims))
            continue
        if len(claims) > 1:
            names = " and ".join(p.metadata.name for p in claims)
            text = f"GPUPools {names} both select it, so nothing is placed on it; make their nodeSelectors disjoint"
            pools_of = tuple(p.metadata.name for p in claims)
            about = f"node {node.name}"
            problems.append(NodeIssue(about=about, reason="ClaimedTwice", message=text, pools=pools_of, node=node))
            continue
        known = [offerings[o] for o in new_ones[PoolName(claims[0].metadata.name)]] if claims else []
        fact = _observed(node, claims[0] if claims else None, known, catalogue)
        if isinstance(fact, NodeIssue):
            problems.append(fact)
            continue
        if isinstance(fact, Machine):
            key = fact.offering
            seen.setdefault(key, []).append((fact, node))
            members.setdefault(fact.pool, {})[key] = None
            offering_of[NodeName(node.name)] = key
        else:
            offering_of[NodeName(node.name)] = fact.id
    kept = {}
    for lost, machine in (last_known or {}).items():
        if lost not in offering_of:  # before commitments are shared out: it counts, whether it says what it is or not
            key = machine.offering
            if key not in offerings and key not in seen:
                seen[key] = [(machine, None)]
            members.setdefault(machine.pool, {})[key] = None
            offering_of[lost] = key
            kept[lost] = next(
                (f"{p.reason}: {p.message}" for p in problems if p.node and p.node.name == lost), "no GPU"
            )
    for key, like in seen.items():
        if key in offerings:
            continue
        best = _like_all([machine for machine, _ in like])
        offerings[key] = replace(quote(best, catalogue, today=today, limits=limits), orderable=False)
        first = like[0][1]
        claimed = first is None or any(_matches(p.spec.node_selector, first.labels) for p in own)
        if offerings[key].usd_per_node_hour is None and first is not None and not claimed:
            problems.append(_unpriced(first, offerings[key]))  # a GPUPool's own condition says so
    if now is not None and catalogue.commitments:
        there = Counter(offering_of.values())
        offerings = with_commitments(offerings, there, _room(own, members, there), catalogue, now)
    pools = {PoolName(p.metadata.name): _pool(p, tuple(members[PoolName(p.metadata.name)])) for p in own}
    for name, ids in members.items():
        if name not in pools:
            pools[name] = Pool(name=name, offerings=tuple(ids), inferred=True)
    return Inventory(
        offerings=offerings,
        pools=pools,
        offering_of=offering_of,
        described=new_ones,
        members={name: frozenset(found) for name, found in of_pool.items()},
        problems=tuple(problems),
        kept=kept,
    )


def _like_all(machines: Sequence[Machine]) -> Machine:
    """What one offering is, of which there are several nodes: as large as the best of them, labelled as all of them.

    A node whose GPUs have failed in part costs what it cost before.
    """
    best = max(machines, key=lambda m: (m.per_node.gpus, m.per_node.cpu, m.per_node.memory_gib))
    if len(machines) == 1:
        return best
    labels = set(machines[0].labels.items())
    taints = machines[0].taints
    for other in machines[1:]:
        labels &= set(other.labels.items())
        taints = tuple(t for t in taints if t in other.taints)
    return replace(best, labels=dict(sorted(labels)), taints=taints)


def _room(
    pools: Iterable[GPUPool], members: Mapping[PoolName, Iterable[OfferingId]], there: Mapping[OfferingId, int]
) -> dict[OfferingId, int]:
    """How many nodes may still be bought of each offering."""
    room: dict[OfferingId, int] = {}
    for pool in pools:
        mine = tuple(members[PoolName(pool.metadata.name)])
        if pool.spec.scaler is not None and pool.spec.limits is not None:
            most = pool.spec.limits.max_nodes - sum(there.get(o, 0) for o in mine)
            room |= {o: max(0, most) for o in mine}
    return room


def _matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return all(labels.get(k) == v for k, v in selector.items())


def _hints_at_gpus(node: NodeRecord) -> bool:
    """A GPU node whose device plugin is not there yet: it is under way, not CPU-only."""
    return any(label in node.labels for label in registry.MODEL_LABELS)


def _pool(pool: GPUPool, offerings: tuple[OfferingId, ...]) -> Pool:
    spec, scaler, limits = pool.spec, pool.spec.scaler, pool.spec.limits
    return Pool(
        name=PoolName(pool.metadata.name),
        offerings=offerings,
        scaler=scaler.adapter if scaler else None,
        advise_only=scaler is None or scaler.mode is Mode.ADVISE,
        min_nodes=limits.min_nodes if limits else 0,
        max_nodes=limits.max_nodes if limits else 0,
        wanted_nodes=pool.status.wanted_nodes or 0,
        cold_start_seconds=spec.cold_start_seconds,
        give_back_after_seconds=spec.give_back_after_seconds,
    )


def _unsupported(node: NodeRecord, pools: Sequence[GPUPool]) -> NodeIssue:
    text = (
        f"it has {UNSUPPORTED[node.device]} ({node.device}), which Stint does not place jobs on yet; nothing is "
        "placed on it, and what asks for them is left to kube-scheduler"
    )
    names = tuple(p.metadata.name for p in pools)
    return NodeIssue(about=f"node {node.name}", reason="NotSupported", message=text, pools=names, node=node)


def _unpriced(node: NodeRecord, o: Offering) -> NodeIssue:
    """Of the first node of an offering that nobody prices."""
    provider = o.provider or "'*'"
    text = (
        f"nobody gives the {o.capacity_type} price of its {o.gpu_model}, so no job is placed on such nodes; give it in "
        f"a PriceBook under spec.prices, as {{provider: {provider}, gpuModel: {o.gpu_model}, capacityType: "
        f"{o.capacity_type}, usdPerGpuHour: 1.5}}, or by instanceType with usdPerNodeHour"
    )
    return NodeIssue(about=f"node {node.name}", reason="NoPrice", message=text, node=node)


def _described(pool: GPUPool, o: PoolOffering, catalogue: Catalogue) -> Machine | NodeIssue:
    """An offering as a GPUPool describes it, filled up from the catalogue."""
    known = catalogue.instance_type(o.provider, o.instance_type)
    model = catalogue.canonical_gpu(o.gpu_model) if o.gpu_model else (known.gpu_model if known else None)
    if model is None:
        wrong = (
            f"gpuModel {o.gpu_model!r} is no GPU" if o.gpu_model else f"{o.provider}/{o.instance_type} is no machine"
        )
        text = f"{wrong} that the catalogue knows; give gpuModel, gpus, cpu, memoryGiB and gpuMemoryGiB"
        return NodeIssue(about="", reason="UnknownMachine", message=text)
    facts = catalogue.gpu(model)
    gpus = o.gpus or int(known.gpu_count if known else 0)
    left_cpu, left_memory = allocatable_of(
        o.provider, known.vcpu or 0.0 if known else 0.0, known.memory_gib or 0.0 if known else 0.0
    )
    cpu, memory = o.cpu or left_cpu, o.memory_gib or left_memory
    gpu_memory = o.gpu_memory_gib or (known.gpu_memory_gib if known else None) or _memory(facts)
    if gpus == 0 or cpu == 0 or memory == 0:
        text = f"nothing is known of {o.instance_type}'s size; give gpus, cpu and memoryGiB"
        return NodeIssue(about="", reason="UnknownMachine", message=text)
    vendor = registry.named(facts.vendor if facts else "")
    region = o.region or region_of(o.provider, o.zone)
    return Machine(
        pool=PoolName(pool.metadata.name),
        provider=o.provider,
        region=region,
        zone=o.zone,
        instance_type=o.instance_type,
        capacity_type=o.capacity_type,
        gpu_model=model,
        gpu_memory_gib=gpu_memory,
        per_node=Resources(gpus=gpus, cpu=cpu, memory_gib=memory, pods=110),
        labels={
            **pool.spec.node_selector,
            INSTANCE_TYPE: o.instance_type,
            CAPACITY: o.capacity_type.value,
            PROVIDER: o.provider,
            **_well_known(model, o.instance_type),
            **({ZONE: o.zone} if o.zone else {}),
            **({CSI_ZONES[o.provider]: o.zone} if o.zone and o.provider in CSI_ZONES else {}),
            **({REGION: region} if region else {}),
            registry.labels_of(vendor).product: catalogue.gfd_product(model),
        },
        taints=(vendor.taint,),
    )


_ARM_GPUS, _ARM_MACHINES = ("GH200", "GB200", "GB300"), ("g5g.", "a4x-", "p6e-")  # models and types that begin so


def _well_known(model: str, instance_type: str) -> dict[str, str]:
    """Labels that every kubelet puts on its node."""
    arm = model.startswith(_ARM_GPUS) or instance_type.startswith(_ARM_MACHINES)
    return {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64" if arm else "amd64"}


def _memory(facts: object) -> float:
    memory = getattr(facts, "memory_gib", None)
    return float(memory.value) if memory is not None else 0.0


def _observed(
    node: NodeRecord, pool: GPUPool | None, known: Sequence[Offering], catalogue: Catalogue
) -> Machine | Offering | NodeIssue:
    """What a node is: the one offering of its pool that it matches, or what its labels say."""
    labels = registry.whole(node.labels)
    capacity = capacity_type(labels)
    parted = registry.shared(node.labels) or bool(node.slices)
    like = [
        o
        for o in known
        if not parted
        and o.slices is None
        and (INSTANCE_TYPE not in labels or labels[INSTANCE_TYPE] == o.instance_type)
        and (ZONE not in labels or not o.zone or labels[ZONE] == o.zone)
        and (capacity is None or capacity is o.capacity_type)
    ]
    if len(like) == 1:
        return like[0]
    instance = labels.get(INSTANCE_TYPE, "")
    provider = provider_of(node, instance, catalogue)
    machine = catalogue.instance_type(provider, instance)
    model = _gpu_model(labels, catalogue, machine.gpu_model if machine else None)
    pools = (pool.metadata.name,) if pool else ()
    if model is None:
        text = _which_gpu(node, labels, instance)
        return NodeIssue(about=f"node {node.name}", reason="UnknownGpu", message=text, pools=pools, node=node)
    facts = catalogue.gpu(model)
    told = registry.memory_gib(labels)
    gpu_memory = told if told is not None else _memory(facts)
    try:
        parts = registry.sharing_of(node.labels, node.slices, whole=node.allocatable.gpus, memory_gib=gpu_memory)
    except ValueError as error:
        text = f"{error}; nothing is placed on it"
        return NodeIssue(about=f"node {node.name}", reason="SharedGpus", message=text, pools=pools, node=node)
    if text := _counted_twice(node, parts, machine):
        return NodeIssue(about=f"node {node.name}", reason="SharedGpus", message=text, pools=pools, node=node)
    zone = labels.get(ZONE, "")
    capacity = capacity or CapacityType.ON_DEMAND
    name = pool.metadata.name if pool else next((labels[k] for k in _POOL_LABELS if k in labels), "")
    return Machine(
        pool=PoolName(name or _inferred_name(instance or model, zone, capacity)),
        provider=provider,
        region=labels.get(REGION) or region_of(provider, zone),
        zone=zone,
        zone_id=labels.get(ZONE_ID, ""),
        instance_type=instance or model,
        capacity_type=capacity,
        gpu_model=model,
        gpu_memory_gib=parts.memory_gib if parts else gpu_memory,
        per_node=allocatable(node, parts) if parts else _in_good_order(node, machine),
        labels={k: v for k, v in node.labels.items() if k != HOSTNAME},
        taints=tuple(t for t in node.taints if not passing(t) and not t.key.startswith(STATE_PREFIX)),
        slices=parts,
    )


def _in_good_order(node: NodeRecord, machine: InstanceType | None) -> Resources:
    """What it has when all of its GPUs work: as many as discovery counts on it, or its instance type has."""
    told = registry.devices(node.labels)
    counted = told[0] if told else 0
    known = int(machine.gpu_count) if machine is not None and machine.gpu_count else 0
    most = max(node.allocatable.gpus, counted or known)
    return node.allocatable if most == node.allocatable.gpus else replace(node.allocatable, gpus=most)


def allocatable(node: NodeRecord, parts: Slices | None) -> Resources:
    """What a node has, its GPUs counted in parts if it gives them out so."""
    if parts is None or parts.resource not in node.slices:
        return node.allocatable
    return replace(node.allocatable, gpus=node.slices[parts.resource])


def passing(taint: Taint) -> bool:
    """Whether a taint tells a state of a node that is known otherwise."""
    return taint.key in _PASSING_TAINTS


def _inferred_name(what: str, zone: str, capacity: CapacityType) -> str:
    return "-".join(part for part in (what, zone, capacity.value) if part).lower().replace("_", "-")


def _which_gpu(node: NodeRecord, labels: Mapping[str, str], instance: str) -> str:
    """Of a node whose GPU nobody knows: what does not say it, and how its vendor's nodes come to say it."""
    vendor = registry.on_node(labels, (t.key for t in node.taints), node.device)
    if vendor.labels is None:
        return (
            f"no label says which {vendor.resource} it has; describe the nodes in a GPUPool: {vendor.remedy}; nothing "
            "is placed on it until then"
        )
    product = vendor.labels.product
    known = f"{product}={labels[product]!r}" if product in labels else f"{product}, which it lacks,"
    without = f", with {vendor.labels.memory_mib} beside it" if product in labels else ""
    return (
        f"neither {known} nor {INSTANCE_TYPE}={instance!r} says which GPU it has; {vendor.remedy}{without}, or "
        "describe the nodes in a GPUPool"
    )


def _counted_twice(node: NodeRecord, parts: Slices | None, machine: InstanceType | None) -> str:
    """Why a node cannot have as many GPUs as it offers, and what to do; empty: it can.

    The device plugin is one witness; a label of the vendor or the cloud, and the catalogue for the instance type, are
    others. Where GPUs are shared and no label says how, it counts each of them several times.
    """
    offers = node.slices[parts.resource] if parts and parts.resource in node.slices else node.allocatable.gpus
    told = registry.devices(node.labels)
    if told is None and machine is not None and machine.gpu_count >= 1:
        told = int(machine.gpu_count), f"the catalogue for {machine.name}"
    if told is None:
        told = registry.MOST_DEVICES, "the largest machine there is"
        if node.given_out_by and parts is None and offers > 1:
            return (
                f"{node.given_out_by} gives out each of its GPUs several times, and no label says how many there are; "
                "run GPU feature discovery; nothing is placed on it"
            )
    most, source = told
    if offers <= most * (parts.per_gpu if parts else 1):
        return ""
    by = f" by {node.given_out_by}" if node.given_out_by else ""
    what = parts.resource if parts else node.device or "GPUs"
    return (
        f"it offers {offers} {what}, and has {most} GPUs ({source}): each is "
        f"given out several times{by}, and no label says into how many parts. Let it give out whole GPUs, or have the "
        "device plugin and GPU feature discovery share them, which say so; nothing is placed on it"
    )


def _gpu_model(labels: Mapping[str, str], catalogue: Catalogue, sold: str | None) -> str | None:
    """By a label that names one model; else by what the instance type is sold with; else by name and memory.

    Args:
        sold: the model that the provider's catalogue has for the instance type.
    """
    named = [found for key in registry.MODEL_LABELS if key in labels and (found := catalogue.gpus_named(labels[key]))]
    exact = next((found[0].model for found in named if len(found) == 1 and not found[0].learnt), None)
    if exact or sold:
        return exact or sold
    gpu = next((nearest(found, registry.memory_gib(labels)) for found in named), None)
    return gpu.model if gpu else None


def capacity_type(labels: Mapping[str, str]) -> CapacityType | None:
    """The first label that says under which terms a node runs; None: none does."""
    for key in _CAPACITY_LABELS:
        word = labels.get(key, "").lower().replace("_", "-")
        if word in _CAPACITY_WORDS:
            return _CAPACITY_WORDS[word]
    if any(labels.get(key) == value for key, value in _SPOT_FLAGS):
        return CapacityType.SPOT
    return None


def provider_of(node: NodeRecord, instance: str, catalogue: Catalogue) -> str:
    """By our own label, by the providerID, or because only one provider sells such a machine."""
    if PROVIDER in node.labels:
        return node.labels[PROVIDER]
    scheme = node.provider_id.partition("://")[0]
    if scheme in _PROVIDER_OF_ID:
        return _PROVIDER_OF_ID[scheme]
    sellers = {t.provider for t in catalogue.instance_types() if t.name == instance}
    return sellers.pop() if len(sellers) == 1 else ""


def region_of(provider: str, zone: str) -> str:
    """us-east-1a is in us-east-1 (AWS), us-central1-a in us-central1 (GCP); elsewhere the zone says nothing."""
    if provider == "gcp":
        return zone.rpartition("-")[0]
    return zone.rstrip("abcdef") if provider == "aws" else ""
