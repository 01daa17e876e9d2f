"""What was spent, line by line: as a TrainingJob's status holds it, and as a namespace's days keep it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

from stint.api.meta import Camel, Meta
from stint.api.schema import doc

USES = ("startup", "held", "useful", "idle", "rework")
COMPONENTS = ("hardware", "energy", "licence", "labour", "storage")  # what runs up by the hour
FIGURES = (
    "energy_kwh",
    "carbon_g",
    "unrated_kwh",
    "measured_gpu_seconds",
    "unpriced_gpu_seconds",
    "baseline_usd",
)  # of a line
_DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"


class Uses(Camel, kw_only=True):
    """An amount, split by what the GPUs did meanwhile."""

    startup: Annotated[float, doc("Bound to a node, and not running yet.")] = 0.0
    held: Annotated[float, doc("Held without working: waiting for the rest of its gang, or on its way out.")] = 0.0
    useful: Annotated[float, doc("Working; also where nobody measures whether it does.")] = 0.0
    idle: Annotated[float, doc("Working by name, but measured to do nothing.")] = 0.0
    rework: Annotated[float, doc("Doing again what an interruption had lost.")] = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.startup + self.held + self.useful + self.idle + self.rework


class Components(Camel, kw_only=True):
    """US dollars by what was paid for."""

    hardware: Annotated[float, doc("Nodes, by the share taken of each.")] = 0.0
    energy: Annotated[float, doc("Electricity of machines of one's own; a cloud's prices contain it.")] = 0.0
    licence: Annotated[float, doc("Software licences.")] = 0.0
    labour: Annotated[float, doc("People.")] = 0.0
    storage: Annotated[float, doc("Scratch volumes.")] = 0.0
    transfer: Annotated[float, doc("Data brought to another region.")] = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.hardware + self.energy + self.licence + self.labour + self.storage + self.transfer


class Line(Camel, kw_only=True):
    """What a job took in one place on one day. Days are UTC's."""

    day: Annotated[str, doc("Which day, as 2026-11-26.", max_length=10, pattern=_DAY)]
    pool: Annotated[str, doc("Node pool.")]
    gpu_model: Annotated[str, doc("GPU model.")]
    capacity_type: Annotated[str, doc("Under which terms its nodes run.")]
    gpu_seconds: Annotated[Uses, doc("GPU-seconds; a part of a GPU counts as a part.")] = msgspec.field(
        default_factory=Uses
    )
    usd: Annotated[Uses, doc("US dollars that ran up by the hour, split in the same way.")] = msgspec.field(
        default_factory=Uses
    )
    components: Annotated[Components, doc("The same dollars, and those for transfer, by what they were for.")] = (
        msgspec.field(default_factory=Components)
    )
    energy_kwh: Annotated[float, doc("At the meter.")] = 0.0
    carbon_g: Annotated[float, doc("CO2-equivalent in grams.")] = 0.0
    unrated_kwh: Annotated[float, doc("Of these, what no carbon intensity is known of: it emits nothing here.")] = 0.0
    measured_gpu_seconds: Annotated[float, doc("GPU-seconds of which it was measured whether they were idle.")] = 0.0
    unpriced_gpu_seconds: Annotated[float, doc("GPU-seconds without a known price: they cost nothing here.")] = 0.0

    baseline_usd: Annotated[float, doc("What the work that was done costs at the baseline, in US dollars.")] = 0.0

    @property
    def total_usd(self) -> float:
        """Everything."""
        return self.components.total

    @property
    def place(self) -> tuple[str, str, str, str]:
        """What tells it from other lines of its job."""
        return self.day, self.pool, self.gpu_model, self.capacity_type


class Ledger(Camel, kw_only=True):
    """status.ledger: what was booked until status.spentThrough."""

    lines: Annotated[list[Line], doc("By day and place: today, yesterday, and what no DailySpend has yet.")] = []
    earlier: Annotated[Line | None, doc("The sum of the days before; its place is the last one of them.")] = None
    rework_units: Annotated[float, doc("Units of work that were lost and are to be done again.", ge=0)] = 0.0
    moved_for: Annotated[datetime | None, doc("For the place given at this time its data's transfer is booked.")] = None
    baseline: Annotated[str, doc("What savedUsd is against.", max_length=256)] = ""
    baseline_usd: Annotated[float | None, doc("What the whole job costs there, in US dollars.")] = None
    baseline_done: Annotated[float, doc("Part of the work for which the baseline's cost is booked.", ge=0, le=1)] = 0.0
    saved_usd: Annotated[str, doc("Of the baseline's cost of what is done; negative: it costs more here.")] = ""
    waste: Annotated[str, doc("Part of the GPU time that was not useful, in per cent.")] = ""
    energy_kwh: Annotated[str, doc("So far.")] = ""
    carbon_kg: Annotated[str, doc("CO2-equivalent so far, in kilograms.")] = ""
    closed: Annotated[bool, doc("Nothing more will be booked.")] = False


class Row(Camel, kw_only=True):
    """What one job took in one place on one day."""

    job: Annotated[str, doc("Name of its TrainingJob.", max_length=253)]
    uid: Annotated[str, doc("Which one of that name.", max_length=64)]
    team: Annotated[str, doc("Its label stint.dev/team.", max_length=63)] = ""
    through: Annotated[datetime, doc("Booked until then: of two rows the later one holds.")]
    moved_for: Annotated[datetime | None, doc("For the place given at this time its data's transfer is in it.")] = None
    line: Annotated[Line, doc("How much.")]


class NodeRow(Camel, kw_only=True):
    """What the nodes of one kind cost on one day, whoever had them."""

    pool: Annotated[str, doc("Node pool.")]
    gpu_model: Annotated[str, doc("GPU model.")]
    capacity_type: Annotated[str, doc("Under which terms they run.")]
    node_seconds: Annotated[float, doc("Node-seconds that they existed.")] = 0.0
    gpu_seconds: Annotated[float, doc("GPU-seconds of that.")] = 0.0
    usd: Annotated[float, doc("US dollars.")] = 0.0
    unpriced_gpu_seconds: Annotated[float, doc("GPU-seconds for which nobody gave a price.")] = 0.0


class PriceStep(Camel, kw_only=True):
    """From when on which price was known to hold."""

    offering: Annotated[str, doc("pool/instance type/zone/capacity type.")]
    since: Annotated[datetime, doc("From then on.")]
    usd_per_node_hour: Annotated[float | None, doc("US dollars for a node and an hour; absent: nobody gives one.")] = (
        None
    )
    source: Annotated[str, doc("Who says so.", max_length=253)] = ""


class DaySpec(Camel, kw_only=True):
    """spec of a DailySpend"""

    day: Annotated[str, doc("Which day, as 2026-11-26 (UTC).", max_length=10, pattern=_DAY)]
    usd: Annotated[str, doc("Of all rows, in US dollars.")] = ""
    useful_percent: Annotated[str, doc("Part of the GPU time that was useful.")] = ""
    gpu_hours: Annotated[str, doc("Of all rows.")] = ""
    energy_kwh: Annotated[str, doc("Of all rows.")] = ""
    carbon_kg: Annotated[str, doc("Of all rows, CO2-equivalent.")] = ""
    rows: Annotated[list[Row], doc("By job and place.", max_length=1000)] = []
    through: Annotated[datetime | None, doc("Nodes are booked until then.")] = None
    nodes: Annotated[
        list[NodeRow], doc("In the operator's own namespace: what all nodes cost, whoever had them.", max_length=2000)
    ] = []
    prices: Annotated[
        list[PriceStep], doc("In the operator's own namespace: prices as they became known.", max_length=5000)
    ] = []


class DailySpend(Camel, kw_only=True):
    """One object as the API server hands it over."""

    metadata: Meta
    spec: DaySpec
