"""PriceBook: your own prices, tariffs and rates. They beat everything that comes with the package."""

from __future__ import annotations

from datetime import date, datetime
from enum import StrEnum
from typing import Annotated

import msgspec

from stint.api.meta import Camel, Conditions, Meta
from stint.api.schema import doc
from stint.catalogue.freshness import LIST_LIMIT_DAYS, SPOT_LIMIT_DAYS
from stint.catalogue.layer import CarbonSignal, Concern
from stint.model.offering import CapacityType

_USD = {"ge": 0, "le": 1e6}
_PLACE = "^[a-z0-9-]+/([a-z0-9-]+|[*])$"


def _place(text: str) -> msgspec.Meta:
    return doc(text, max_length=128, pattern=_PLACE)


class Price(Camel, kw_only=True):
    """spec.prices[]"""

    provider: Annotated[
        str, doc("Who sells it; * for everybody, and for nodes that do not say.", min_length=1, max_length=64)
    ]
    region: Annotated[str, doc("Where; * for everywhere.", max_length=64)] = "*"
    zone: Annotated[str, doc("In this zone only.", max_length=64)] = ""
    instance_type: Annotated[str, doc("Which machine; or give gpuModel.", max_length=64)] = ""
    gpu_model: Annotated[str, doc("Any machine with GPUs of this model, instead of instanceType.", max_length=64)] = ""
    capacity_type: Annotated[CapacityType, doc("Under which terms.")] = CapacityType.ON_DEMAND
    usd_per_node_hour: Annotated[
        Annotated[float, msgspec.Meta(**_USD)] | None, doc("US dollars for a node and an hour, with instanceType.")
    ] = None
    usd_per_gpu_hour: Annotated[
        Annotated[float, msgspec.Meta(**_USD)] | None, doc("US dollars for a GPU and an hour, with gpuModel.")
    ] = None


PRICE_RULES = (
    ("(self.instanceType != '') != (self.gpuModel != '')", "give one of instanceType and gpuModel"),
    ("has(self.usdPerNodeHour) == (self.instanceType != '')", "give usdPerNodeHour with instanceType, and only then"),
    ("has(self.usdPerGpuHour) == (self.gpuModel != '')", "give usdPerGpuHour with gpuModel, and only then"),
)


class GpuModel(Camel, kw_only=True):
    """spec.gpuModels[]"""

    name: Annotated[str, doc("How jobs, GPUPools and prices name it.", min_length=1, max_length=64)]
    labels: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=63)]],
        doc("Other names of it, as the value of the node label that says which GPU a node has.", max_length=16),
    ] = []
    memory_gib: Annotated[float, doc("Memory of one GPU in GiB; 0 for what the node's label says.", ge=0, le=4096)] = (
        msgspec.field(default=0.0, name="memoryGiB")
    )
    watts: Annotated[float, doc("Peak power of one GPU in watts; 0 for not known.", ge=0, le=10_000)] = 0.0
    bf16_tflops: Annotated[
        float, doc("Dense bf16 throughput in TFLOPS, to compare models by; 0 for not known.", ge=0, le=1e6)
    ] = 0.0
    capex_usd: Annotated[
        float,
        doc("Purchase price of one GPU with its share of the server in US dollars; 0 for not known.", ge=0, le=1e7),
    ] = 0.0


class Tariff(Camel, kw_only=True):
    """spec.energy.tariffs[]"""

    region: Annotated[str, doc("Region of owned machines.", min_length=1, max_length=64)]
    usd_per_kwh: Annotated[float, doc("US dollars for a kilowatt-hour.", ge=0, le=100)]


class Pue(Camel, kw_only=True):
    """spec.energy.pue[]"""

    at: Annotated[str, _place("provider/region, or provider/*.")]
    ratio: Annotated[float, doc("Power usage effectiveness of the site.", ge=1, le=5)]


class Energy(Camel, kw_only=True):
    """spec.energy"""

    tariffs: Annotated[list[Tariff], doc("What a kilowatt-hour costs.", max_length=256)] = []
    pue: Annotated[list[Pue], doc("How much the site adds.", max_length=256)] = []


class Intensity(Camel, kw_only=True):
    """spec.carbon.intensities[]"""

    at: Annotated[str, _place("provider/region, or provider/*.")]
    g_per_kwh: Annotated[float, doc("Grams of CO2-equivalent for a kilowatt-hour.", ge=0, le=5000)]


class Carbon(Camel, kw_only=True):
    """spec.carbon"""

    signal: Annotated[
        CarbonSignal | None,
        doc(
            "Which kind of carbon intensity decisions use, and what `intensities` are: averages over the whole life "
            "cycle (without this field), operational averages, or marginal. They are never mixed: of several books the "
            "last that says so wins, and figures of another kind are refused."
        ),
    ] = None
    usd_per_tonne: Annotated[
        Annotated[float, msgspec.Meta(**_USD)] | None,
        doc("What you charge yourself for a tonne; it is added to costs."),
    ] = None
    intensities: Annotated[list[Intensity], doc("Carbon intensity of the grid.", max_length=256)] = []


class Egress(Camel, kw_only=True):
    """spec.egress[]"""

    source: Annotated[str, doc("From provider/region.", max_length=128, pattern=_PLACE)] = msgspec.field(name="from")
    to: Annotated[str, _place("To provider/region.")]
    usd_per_gb: Annotated[float, doc("US dollars for a gigabyte.", ge=0, le=100)] = msgspec.field(name="usdPerGB")


class Storage(Camel, kw_only=True):
    """spec.storage[]"""

    at: Annotated[str, _place("provider/region, or provider/*.")]
    usd_per_gb_month: Annotated[float, doc("US dollars for a gigabyte and a month.", ge=0, le=100)] = msgspec.field(
        name="usdPerGBMonth"
    )


class Interruption(Camel, kw_only=True):
    """spec.interruptions[]"""

    provider: Annotated[str, doc("Whose spot capacity.", min_length=1, max_length=64)]
    region: Annotated[str, doc("Where; * for everywhere.", max_length=64)] = "*"
    what: Annotated[str, doc("Instance type or GPU model; * for all.", max_length=64)] = "*"
    zone: Annotated[str, doc("In this zone only.", max_length=64)] = ""
    per_hour: Annotated[float, doc("How often a node is taken, per hour that it runs.", ge=0, le=60)]


class Licence(Camel, kw_only=True):
    """spec.licences[]"""

    name: Annotated[str, doc("As jobs name it in spec.licences.", min_length=1, max_length=63)]
    usd_per_gpu_hour: Annotated[float, doc("US dollars for a GPU and an hour.", **_USD)]


class Labour(Camel, kw_only=True):
    """spec.labour"""

    usd_per_job_hour: Annotated[float, doc("What people cost for each hour that a job runs.", **_USD)]


class SourceType(StrEnum):
    """Whom to ask."""

    CONFIG_MAP = "ConfigMap"  # rows as CSV or YAML
    HTTP = "Http"  # rows as JSON or CSV: whatever speaks our contract, as hack/bridges does
    OPENCOST = "OpenCost"
    KARPENTER = "Karpenter"
    NODE_OVERLAYS = "NodeOverlays"
    TARIFF = "Tariff"  # electricity by the hour of the week
    ELECTRICITY_MAPS = "ElectricityMaps"
    WATT_TIME = "WattTime"


class Metrics(StrEnum):
    """Where metrics are."""

    ENDPOINT = "Endpoint"  # the text that an exporter serves
    PROMETHEUS = "Prometheus"  # asked by its query API


class ConfigMapRef(Camel, kw_only=True):
    """spec.sources[].configMap"""

    name: Annotated[
        str, doc("In the operator's namespace; list it in the chart's feeds.configMaps.", min_length=1, max_length=253)
    ]
    key: Annotated[str, doc("Which of its files; empty: all that end in .csv or .yaml.", max_length=253)] = ""


class Window(Camel, kw_only=True):
    """spec.sources[].tariffs[].windows[]"""

    days: Annotated[
        list[Annotated[str, msgspec.Meta(pattern="^(Mon|Tue|Wed|Thu|Fri|Sat|Sun)$")]],
        doc("On which days it begins; none: on all.", max_length=7),
    ] = []
    start: Annotated[
        str, doc("When it begins there, as 07:00.", max_length=5, pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$")
    ] = msgspec.field(name="from")
    to: Annotated[
        str,
        doc(
            "When it ends; not after its beginning: on the next day.",
            max_length=5,
            pattern="^([01][0-9]|2[0-3]):[0-5][0-9]$",
        ),
    ]
    per_kwh: Annotated[float, doc("A kilowatt-hour then.", ge=0, le=1e6)]


class TimeOfUse(Camel, kw_only=True):
    """spec.sources[].tariffs[]"""

    region: Annotated[str, doc("Region of owned machines; * for all others.", min_length=1, max_length=64)]
    time_zone: Annotated[str, doc("Whose clock, as Europe/Berlin.", min_length=1, max_length=64)] = "UTC"
    per_kwh: Annotated[float, doc("A kilowatt-hour outside of all windows.", ge=0, le=1e6)]
    windows: Annotated[list[Window], doc("The first that fits wins.", max_length=32)] = []


class ZoneRef(Camel, kw_only=True):
    """spec.sources[].zones[]"""

    at: Annotated[str, _place("provider/region, or provider/*.")]
    zone: Annotated[str, doc("What the carbon API calls it, as DE or CAISO_NORTH.", min_length=1, max_length=64)]


class Source(Camel, kw_only=True):
    """spec.sources[]"""

    name: Annotated[
        str,
        doc(
            "How conditions and metrics call it.",
            min_length=1,
            max_length=63,
            pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        ),
    ]
    type: Annotated[SourceType, doc("Whom to ask.")]
    precedence: Annotated[
        int, doc("Of several sources the higher one wins; prices in spec.prices beat them all.", ge=-1000, le=1000)
    ] = 0
    every_minutes: Annotated[float, doc("How often it is read.", gt=0, le=10_080)] = 15
    timeout_seconds: Annotated[float, doc("How long it may take to answer.", gt=0, le=60)] = 10
    url: Annotated[str, doc("Where it is.", max_length=1024, pattern="^(https?://.+)?$")] = ""
    token: Annotated[
        str,
        doc(
            "SECRET/KEY of a token for it, or of user:password for WattTime; list the Secret in the chart's "
            "feeds.tokenSecrets.",
            max_length=512,
            pattern="^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/[-._A-Za-z0-9]+)?$",
        ),
    ] = ""
    config_map: Annotated[ConfigMapRef | None, doc("For type ConfigMap: which.")] = None
    metrics: Annotated[Metrics, doc("For types OpenCost and Karpenter: what answers at the URL.")] = Metrics.ENDPOINT
    provider: Annotated[str, doc("Whose nodes, where the source does not say.", max_length=64)] = ""
    currency: Annotated[
        str, doc("That its money is in, where it does not say.", pattern="^[A-Z]{3}$", max_length=3)
    ] = "USD"
    usd_per: Annotated[
        Annotated[float, msgspec.Meta(gt=0, le=1e6)] | None,
        doc("Dollars for one unit of that currency. Without it, money that is not in dollars is refused."),
    ] = None
    tariffs: Annotated[list[TimeOfUse], doc("For type Tariff.", max_length=64)] = []
    zones: Annotated[
        list[ZoneRef], doc("For types ElectricityMaps and WattTime: which zone is where.", max_length=64)
    ] = []
    signal: Annotated[
        CarbonSignal | None,
        doc("For types ElectricityMaps (average) and WattTime: what to ask for; without it, lifecycle and marginal."),
    ] = None


SOURCE_RULES = (
    ("!(self.type in ['Http', 'OpenCost', 'Karpenter']) || self.url != ''", "a source of this type needs a url"),
    ("self.type != 'ConfigMap' || has(self.configMap)", "a source of type ConfigMap needs configMap.name"),
    ("self.type != 'Tariff' || size(self.tariffs) > 0", "a source of type Tariff needs tariffs"),
    (
        "!(self.type in ['ElectricityMaps', 'WattTime']) || size(self.zones) > 0",
        "a source of carbon needs zones: which of its zones is which region",
    ),
    ("self.currency == 'USD' || has(self.usdPer)", "money that is not in dollars needs usdPer, as 1.08"),
)


class Owned(Camel, kw_only=True):
    """spec.commitments[].owned"""

    capex_usd: Annotated[float, doc("What one machine cost, with its share of racks and network.", **_USD)]
    depreciation_years: Annotated[float, doc("Over which that is written off.", gt=0, le=50)] = 4
    idle_watts: Annotated[float, doc("What one machine draws without work.", ge=0, le=100_000)] = 0
    usd_per_kwh: Annotated[
        Annotated[float, msgspec.Meta(ge=0, le=100)] | None, doc("Its electricity; without it, the region's tariff.")
    ] = None
    pue: Annotated[Annotated[float, msgspec.Meta(ge=1, le=5)] | None, doc("Of its site; without it, the region's.")] = (
        None
    )


class SavingsPlan(Camel, kw_only=True):
    """spec.commitments[].savingsPlan"""

    usd_per_hour: Annotated[float, doc("What you have committed to spend, at the discounted prices.", gt=0, le=1e6)]
    discount: Annotated[float, doc("Off the list price, as 0.3.", ge=0, lt=1)]


class Commitment(Camel, kw_only=True):
    """spec.commitments[]"""

    name: Annotated[str, doc("How prices and bills call it.", min_length=1, max_length=63)]
    provider: Annotated[str, doc("Whose nodes.", min_length=1, max_length=64)]
    region: Annotated[str, doc("Where; * for everywhere.", max_length=64)] = "*"
    zone: Annotated[str, doc("In this zone only.", max_length=64)] = ""
    instance_type: Annotated[str, doc("Which nodes; * for all, with a savings plan.", min_length=1, max_length=64)] = (
        "*"
    )
    nodes: Annotated[int, doc("How many. Nodes beyond that have their ordinary price.", ge=0, le=100_000)] = 0
    usd_per_node_hour: Annotated[
        Annotated[float, msgspec.Meta(**_USD)] | None,
        doc("What a reserved node costs an hour, used or not. It is sunk in decisions, and booked."),
    ] = None
    savings_plan: Annotated[SavingsPlan | None, doc("Dollars an hour instead of nodes.")] = None
    owned: Annotated[Owned | None, doc("Machines of your own.")] = None
    start: Annotated[datetime | None, doc("From when on; without it, since ever.")] = None
    end: Annotated[datetime | None, doc("Until when; without it, for ever. Capacity blocks have both.")] = None


COMMITMENT_RULES = (
    (
        "(has(self.usdPerNodeHour) ? 1 : 0) + (has(self.savingsPlan) ? 1 : 0) + (has(self.owned) ? 1 : 0) == 1",
        "a commitment is one of usdPerNodeHour (reserved nodes, capacity blocks), savingsPlan and owned",
    ),
    ("has(self.savingsPlan) || self.nodes > 0", "say how many nodes"),
    ("has(self.savingsPlan) || self.instanceType != '*'", "say which instanceType"),
    ("!has(self.start) || !has(self.end) || self.start < self.end", "end must lie after start"),
)


class Freshness(Camel, kw_only=True):
    """spec.freshness"""

    list_price_days: Annotated[float, doc("A list price older than this is reported as stale.", ge=0, le=36_500)] = (
        LIST_LIMIT_DAYS
    )
    spot_price_days: Annotated[float, doc("A spot price older than this is reported as stale.", ge=0, le=36_500)] = (
        SPOT_LIMIT_DAYS
    )


class Spec(Camel, kw_only=True):
    """spec"""

    as_of: Annotated[
        str,
        doc("When these numbers were true, as 2026-11-01.", max_length=10, pattern="^([0-9]{4}-[0-9]{2}-[0-9]{2})?$"),
    ] = ""
    precedence: Annotated[int, doc("Of several books the higher one wins; then the later name.", ge=-1000, le=1000)] = 0
    prices: Annotated[list[Annotated[Price, doc("", cel=PRICE_RULES)]], doc("Prices of nodes.", max_length=2000)] = []
    gpu_models: Annotated[
        list[GpuModel],
        doc(
            "GPU models that the catalogue lacks, or knows less well than you.",
            max_length=64,
            extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    energy: Annotated[Energy | None, doc("Energy of owned machines.")] = None
    carbon: Annotated[Carbon | None, doc("Carbon and what it costs you.")] = None
    egress: Annotated[list[Egress], doc("Moving data.", max_length=500)] = []
    storage: Annotated[list[Storage], doc("Block storage.", max_length=500)] = []
    interruptions: Annotated[list[Interruption], doc("How often spot nodes are taken.", max_length=500)] = []
    licences: Annotated[list[Licence], doc("Licences that jobs name.", max_length=100)] = []
    labour: Annotated[Labour | None, doc("People.")] = None
    freshness: Annotated[Freshness | None, doc("From when on a figure counts as stale.")] = None
    sources: Annotated[
        list[Annotated[Source, doc("", cel=SOURCE_RULES)]],
        doc(
            "Whom to ask for prices, tariffs and carbon intensities.",
            max_length=16,
            extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    commitments: Annotated[
        list[Annotated[Commitment, doc("", cel=COMMITMENT_RULES)]],
        doc(
            "What is paid for anyway.",
            max_length=128,
            extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []


class Row(Camel, kw_only=True):
    """One figure as sources write it: a line of CSV, an entry of YAML or JSON, and what status keeps."""

    what: Annotated[Concern, doc("What it is.")] = Concern.PRICE
    provider: Annotated[str, doc("Whose.", max_length=64)] = ""
    region: Annotated[str, doc("Where; * for everywhere.", max_length=64)] = "*"
    zone: Annotated[str, doc("In this zone only.", max_length=64)] = ""
    instance_type: Annotated[str, doc("Of a price or of interruptions.", max_length=64)] = ""
    capacity_type: Annotated[CapacityType, doc("Of a price.")] = CapacityType.ON_DEMAND
    signal: Annotated[CarbonSignal, doc("Of carbon.")] = CarbonSignal.AVERAGE_LIFECYCLE
    value: Annotated[float, doc("USD per node-hour, USD or grams per kWh, a ratio, or times per hour.")]
    currency: Annotated[str, doc("Of a price or a tariff.", max_length=3)] = ""
    since: Annotated[datetime | None, doc("From when on.")] = msgspec.field(name="from", default=None)
    until: Annotated[datetime | None, doc("Until when.")] = None
    as_of: Annotated[datetime | None, doc("When it was true.")] = None


class Quarantined(Camel, kw_only=True):
    """status.sources[].quarantined[]"""

    what: Annotated[str, doc("Which figure.", max_length=256)]
    value: Annotated[str, doc("What the source says.", max_length=32)]
    why: Annotated[str, doc("Why that is not believed, and what to do.", max_length=512)]


MOST_KEPT, MOST_QUARANTINED = 200, 20


class SourceStatus(Camel, kw_only=True):
    """status.sources[]"""

    name: Annotated[str, doc("As in spec.", max_length=63)]
    up: Annotated[bool, doc("Whether it could be read.")] = False
    last_good: Annotated[datetime | None, doc("When it was last read.")] = None
    figures: Annotated[int, doc("How many it gives.")] = 0
    refused: Annotated[int, doc("How many were not believed.")] = 0
    quarantined: Annotated[list[Quarantined], doc("Some of those.", max_length=MOST_QUARANTINED)] = []
    message: Annotated[str, doc("What is wrong, and what to do.", max_length=1024)] = ""
    kept: Annotated[
        list[Row],
        doc(
            "Its last good figures about this cluster's offerings: the operator goes on with them after a restart, and "
            "the command line sees what the operator uses.",
            max_length=MOST_KEPT,
        ),
    ] = []


class Status(Camel, kw_only=True):
    """status"""

    observed_generation: Annotated[int, doc("Of the spec that this status speaks of.")] = 0
    entries: Annotated[int, doc("Figures that it gives.")] = 0
    stale: Annotated[int, doc("Offerings in this cluster with a figure that is too old.")] = 0
    unpriced: Annotated[int, doc("Offerings in this cluster without a price.")] = 0
    offerings: Annotated[int, doc("Offerings in this cluster.")] = 0
    updated: Annotated[str, doc("spec.asOf.")] = ""
    sources: Annotated[list[SourceStatus], doc("Of spec.sources, how each is.", max_length=16)] = []
    conditions: Conditions = []


class PriceBook(Camel, kw_only=True):
    """One object as the API server hands it over."""

    metadata: Meta
    spec: Spec
    status: Status = msgspec.field(default_factory=Status)


def as_of(book: PriceBook) -> date | None:
    """The date its numbers were true on; None: not said, or no date."""
    try:
        return date.fromisoformat(book.spec.as_of)
    except ValueError:
        return None
