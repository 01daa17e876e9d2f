"""What a node was, while a gang has its placement there and the node no longer says what it is. Pure.

Labels go for a moment when feature discovery restarts, and a second GPUPool may claim a node by mistake. The gang there
runs on, at the price of the offering that it was placed on: as it was last seen, or, after a restart of the operator,
as the plan of the gang names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from stint.catalogue.catalogue import Catalogue
from stint.catalogue.quote import Machine
from stint.kube.observe.gang import Gang
from stint.kube.observe.inventory import REGION, ZONE_ID, Inventory, provider_of, region_of
from stint.kube.plan_note import PlanNote
from stint.kube.records import NodeRecord
from stint.model.gang import GangState
from stint.model.job import NodeName
from stint.model.market import Offering, PoolName
from stint.model.offering import CapacityType


def last_known(
    gangs: Iterable[Gang], records: Iterable[NodeRecord], machines: Mapping[NodeName, Machine], catalogue: Catalogue
) -> dict[NodeName, Machine]:
    """What each node is that a gang has its placement on, should the node itself not say it.

    Args:
        machines: as they were last seen.
    """
    by_name = {NodeName(r.name): r for r in records}
    found: dict[NodeName, Machine] = {}
    for gang in gangs:
        if gang.plan is None or gang.state is not GangState.PLACED:
            continue
        for name in sorted({NodeName(n) for n in gang.plan.nodes} & by_name.keys() - found.keys()):
            machine = machines.get(name) or _as_planned(gang.plan, by_name[name], catalogue)
            if machine is not None:
                found[name] = machine
    return found


def seen(inventory: Inventory, records: Iterable[NodeRecord], held: Iterable[NodeName]) -> dict[NodeName, Machine]:
    """What the nodes are that gangs hold, for the next observation."""
    by_name = {NodeName(r.name): r for r in records}
    return {
        name: _machine(inventory.offerings[inventory.offering_of[name]], by_name[name])
        for name in held
        if name in inventory.offering_of and name in by_name
    }


def _machine(offering: Offering, record: NodeRecord) -> Machine:
    o = offering
    return Machine(
        pool=o.pool,
        provider=o.provider,
        region=o.region,
        zone=o.zone,
        zone_id=record.labels.get(ZONE_ID, ""),
        instance_type=o.instance_type,
        capacity_type=o.capacity_type,
        gpu_model=o.gpu_model,
        gpu_memory_gib=o.gpu_memory_gib,
        per_node=o.per_node,
        labels=o.labels,
        taints=o.taints,
        slices=o.slices,
    )


def _as_planned(plan: PlanNote, record: NodeRecord, catalogue: Catalogue) -> Machine | None:
    """As the offering's name says it; None: no name of ours. How GPUs are shared is not in it: they count as whole."""
    parts = plan.offering.split("/")
    if len(parts) != 4 or parts[3] not in CapacityType.__members__.values():
        return None
    pool, machine, zone, capacity = parts
    zone = "" if zone == "-" else zone
    instance = machine.partition(":")[0]
    provider = provider_of(record, instance, catalogue)
    known, facts = catalogue.instance_type(provider, instance), catalogue.gpu(plan.gpu_model)
    memory = facts.memory_gib if facts is not None else None
    per_node = record.allocatable
    if not per_node.gpus:
        held = sum(r.gpus for n, r in zip(plan.nodes, plan.by_rank(), strict=False) if n == record.name)
        per_node = replace(per_node, gpus=int(known.gpu_count or 0) if known is not None else held)
    return Machine(
        pool=PoolName(pool),
        provider=provider,
        region=record.labels.get(REGION) or region_of(provider, zone),
        zone=zone,
        zone_id=record.labels.get(ZONE_ID, ""),
        instance_type=instance,
        capacity_type=CapacityType(capacity),
        gpu_model=plan.gpu_model,
        gpu_memory_gib=float(memory.value) if memory is not None else 0.0,
        per_node=per_node,
        labels=record.labels,
    )
