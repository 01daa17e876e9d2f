"""The cost to finish: everything that a job will still cost if it runs this way.

    cost to finish = hardware + rework + start-up + energy + egress + storage
                   + licence + labour + lateness + carbon

Each column is one way to run one job. Hours fall into three parts, of which the first is free:

    now --- wait ---|--- boot ---|--------------- wall ---------------|
                    |            work + checkpoints, lost work, restarts
                    billing starts
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Float

from stint.cost.adders import labour_usd, licence_usd
from stint.cost.carbon import carbon_g, carbon_usd
from stint.cost.energy import energy_kwh, energy_usd
from stint.cost.hardware import hardware_usd
from stint.cost.interruption import expected_wall_hours
from stint.cost.lateness import lateness_usd
from stint.cost.storage import storage_usd
from stint.cost.transfer import egress_usd


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishInputs:
    """What the cost follows from. All arrays have one length; all numbers are >= 0 and none is nan.

    An infinite `checkpoint_every_hours` or `hours_to_deadline` means never. Any other infinity, `work_hours` above
    all, means that the job cannot be run this way.

    Raises:
        ValueError: naming the field that is negative, nan or of another length.
    """

    work_hours: Float[np.ndarray, " column"]  # left to do, without interruptions or checkpoints
    wait_hours: Float[np.ndarray, " column"]  # not billed: for capacity to fall free, or to be delivered
    boot_hours: Float[np.ndarray, " column"]  # billed: cold start, image pull, restore; no work yet
    interruptions_per_hour: Float[np.ndarray, " column"]  # of the whole gang
    checkpoint_every_hours: Float[np.ndarray, " column"]  # > 0; inf: never, so an interruption loses everything
    checkpoint_hours: Float[np.ndarray, " column"]
    restart_hours: Float[np.ndarray, " column"]
    billed_nodes: Float[np.ndarray, " column"]  # node-equivalents; fractions are shares of a node
    usd_per_node_hour: Float[np.ndarray, " column"]
    watts: Float[np.ndarray, " column"]  # the gang's share of its nodes, at load
    pue: Float[np.ndarray, " column"]
    usd_per_kwh: Float[np.ndarray, " column"]  # 0 where the price contains the energy
    g_co2_per_kwh: Float[np.ndarray, " column"]
    usd_per_tonne_co2: Float[np.ndarray, " column"]
    egress_gib: Float[np.ndarray, " column"]
    usd_per_egress_gb: Float[np.ndarray, " column"]
    storage_gib: Float[np.ndarray, " column"]
    usd_per_storage_gb_month: Float[np.ndarray, " column"]
    licence_usd_per_hour: Float[np.ndarray, " column"]
    labour_usd_per_hour: Float[np.ndarray, " column"]
    hours_to_deadline: Float[np.ndarray, " column"]  # inf: none; 0: passed, what it has cost so far is sunk
    lateness_usd_per_hour: Float[np.ndarray, " column"]

    def __post_init__(self) -> None:
        """Refuse numbers that no price list and no clock can give."""
        for field in fields(self):
            values: np.ndarray = getattr(self, field.name)
            if values.shape != self.work_hours.shape:
                raise ValueError(f"{field.name} has shape {values.shape}, work_hours {self.work_hours.shape}")
            if not np.all(values >= 0):  # nan compares false
                raise ValueError(f"{field.name} must be >= 0 and not nan, not {values[~(values >= 0)][0]}")
        if not np.all(self.checkpoint_every_hours > 0):
            raise ValueError("checkpoint_every_hours must be > 0; inf for a job that never writes one")


@dataclass(frozen=True, slots=True, kw_only=True)
class CostToFinish:
    """The cost by cause. Everything is inf in a column where the job is not expected to end."""

    wall_hours: Float[np.ndarray, " column"]  # the stretched run, without wait and boot
    finish_hours: Float[np.ndarray, " column"]  # wait + boot + wall, from now
    hardware_usd: Float[np.ndarray, " column"]  # useful work only
    rework_usd: Float[np.ndarray, " column"]  # checkpoints, lost work, restarts
    startup_usd: Float[np.ndarray, " column"]
    energy_usd: Float[np.ndarray, " column"]
    egress_usd: Float[np.ndarray, " column"]
    storage_usd: Float[np.ndarray, " column"]
    licence_usd: Float[np.ndarray, " column"]
    labour_usd: Float[np.ndarray, " column"]
    lateness_usd: Float[np.ndarray, " column"]
    carbon_usd: Float[np.ndarray, " column"]
    total_usd: Float[np.ndarray, " column"]  # the sum of all the dollars above
    energy_kwh: Float[np.ndarray, " column"]
    carbon_g: Float[np.ndarray, " column"]


COMPONENTS = (
    "hardware_usd",
    "rework_usd",
    "startup_usd",
    "energy_usd",
    "egress_usd",
    "storage_usd",
    "licence_usd",
    "labour_usd",
    "lateness_usd",
    "carbon_usd",
)  # what `total_usd` adds up

ENDLESS_HOURS = 1e9  # a hundred thousand years: a run expected to take that long is one that never ends
_MAY_BE_NEVER = frozenset({"checkpoint_every_hours", "hours_to_deadline"})


def cost_to_finish(inputs: FinishInputs) -> CostToFinish:
    """Return what each way to run would still cost.

    Machines, storage, licences and people are paid from boot to the end; power is counted at load all that time,
    which overstates the boot a little. The formula of the stretch is in `stint.cost.interruption`.
    """
    ends = np.ones(inputs.work_hours.shape, dtype=bool)
    for field in fields(inputs):
        if field.name not in _MAY_BE_NEVER:
            ends &= np.isfinite(getattr(inputs, field.name))
    # Columns without an end are computed as if they took no time, and overwritten below: inf x 0 would be nan.
    finite = {
        field.name: np.where(ends, getattr(inputs, field.name), 0.0)
        for field in fields(inputs)
        if field.name not in _MAY_BE_NEVER
    }
    work, boot = finite["work_hours"], finite["boot_hours"]
    wall = expected_wall_hours(
        work,
        finite["interruptions_per_hour"],
        checkpoint_every_hours=inputs.checkpoint_every_hours,
        checkpoint_hours=finite["checkpoint_hours"],
        restart_hours=finite["restart_hours"],
    )
    ends &= wall < ENDLESS_HOURS
    wall = np.where(ends, wall, 0.0)
    billed_hours = boot + wall
    finish_hours = finite["wait_hours"] + billed_hours
    nodes, price = finite["billed_nodes"], finite["usd_per_node_hour"]
    kwh = energy_kwh(billed_hours, finite["watts"], finite["pue"])
    grams = carbon_g(kwh, finite["g_co2_per_kwh"])
    columns = {
        "wall_hours": wall,
        "finish_hours": finish_hours,
        "hardware_usd": hardware_usd(work, nodes, price),
        "rework_usd": hardware_usd(np.maximum(wall - work, 0.0), nodes, price),
        "startup_usd": hardware_usd(boot, nodes, price),
        "energy_usd": energy_usd(kwh, finite["usd_per_kwh"]),
        "egress_usd": egress_usd(finite["egress_gib"], finite["usd_per_egress_gb"]),
        "storage_usd": storage_usd(billed_hours, finite["storage_gib"], finite["usd_per_storage_gb_month"]),
        "licence_usd": licence_usd(billed_hours, finite["licence_usd_per_hour"]),
        "labour_usd": labour_usd(billed_hours, finite["labour_usd_per_hour"]),
        "lateness_usd": lateness_usd(finish_hours, inputs.hours_to_deadline, finite["lateness_usd_per_hour"]),
        "carbon_usd": carbon_usd(grams, finite["usd_per_tonne_co2"]),
        "energy_kwh": kwh,
        "carbon_g": grams,
    }
    columns["total_usd"] = sum((columns[name] for name in COMPONENTS), start=np.zeros_like(work))
    return CostToFinish(**{name: np.where(ends, values, np.inf) for name, values in columns.items()})
