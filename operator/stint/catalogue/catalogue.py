"""The catalogue: every figure that a decision may ask for, as known at one instant.

A lookup answers with a `Figure` or with None. None means not known: there is no default that nobody chose. A figure
that stands in for a missing one says so in its source and is marked an estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import TypeVar

from stint.catalogue import names
from stint.catalogue.commitments import Commitment
from stint.catalogue.hardware import GpuFacts, InstanceType
from stint.catalogue.layer import ANY, INTERNET, CarbonSignal, Layer, Place, PriceKey, Route, SpotKey
from stint.catalogue.overrides import Overrides
from stint.model.figure import Confidence, Figure
from stint.model.offering import CapacityType

HOURS_PER_YEAR = 8760.0
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumptions:
    """What is assumed of all machines alike."""

    host_watts_per_gpu: Figure  # CPUs, memory, fans and network, as a share of each GPU
    training_load_fraction: Figure  # what a training GPU draws, as a fraction of its peak
    amortisation_years: Figure  # over which a machine's purchase is written off


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """GPUs, instance types, and figures in layers of which the first that knows an answer gives it."""

    gpus: Mapping[str, GpuFacts]  # by canonical model
    instances: Mapping[tuple[str, str], InstanceType]  # by provider and name
    layers: tuple[Layer, ...]
    assumptions: Assumptions
    carbon_signal: CarbonSignal = CarbonSignal.AVERAGE_LIFECYCLE
    commitments: tuple[Commitment, ...] = ()  # whether they hold yet, or still, is for `stint.catalogue.commitments`
    _meanings: Mapping[str, tuple[GpuFacts, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the GPUs' names."""
        object.__setattr__(self, "_meanings", names.index(self.gpus.values()))

    def with_overrides(self, overrides: Overrides) -> Catalogue:
        """The same catalogue with the user's numbers on top. Of two books, the later one wins.

        Raises:
            ValueError: if the book's carbon figures are of another kind than this catalogue's.
        """
        if overrides.carbon and overrides.carbon_signal is not self.carbon_signal:
            raise ValueError(f"carbon is {overrides.carbon_signal}, but the catalogue's is {self.carbon_signal}")
        taught = [self._over(gpu) for gpu in overrides.gpus.values()]
        gpus = {**self.gpus, **{gpu.model: gpu for gpu in taught}}
        return replace(self, layers=(overrides.layer(), *self.layers), gpus=gpus)

    def _over(self, gpu: GpuFacts) -> GpuFacts:
        """What the user says of a model, over what is known of it."""
        known = self.gpus_named(gpu.model)
        if len(known) != 1:
            return gpu
        (old,) = known
        return replace(
            old,
            memory_gib=gpu.memory_gib or old.memory_gib,
            tdp_watts=gpu.tdp_watts or old.tdp_watts,
            bf16_tflops=gpu.bf16_tflops or old.bf16_tflops,
            capex_usd=gpu.capex_usd or old.capex_usd,
            aliases=(*old.aliases, gpu.product, *gpu.aliases),
        )

    def with_models(self, gpus: Iterable[GpuFacts]) -> Catalogue:
        """The same catalogue with models that it lacks."""
        return replace(self, gpus={**{gpu.model: gpu for gpu in gpus}, **self.gpus})

    # What there is

    def instance_type(self, provider: str, name: str) -> InstanceType | None:
        """The machine that `provider` sells under `name`."""
        return self.instances.get((provider, name))

    def instance_types(self) -> tuple[InstanceType, ...]:
        """All machines, in a fixed order."""
        return tuple(self.instances.values())

    def gpu(self, model_or_alias: str) -> GpuFacts | None:
        """The GPU of that name, in any spelling that `canonical_gpu` knows."""
        return self.gpus.get(model_or_alias) or names.look_up(self._meanings, model_or_alias)

    def canonical_gpu(self, text: str, memory_gib: float | None = None) -> str | None:
        """The canonical model that `text` names: a node label's value, or what a person wrote.

        Some labels name several models: Karpenter says `a100` for 40 and 80 GiB. `memory_gib` tells them apart;
        without it the smaller is meant. A shared GPU or a MIG slice is none of ours: None.
        """
        gpu = names.look_up(self._meanings, text, memory_gib)
        return gpu.model if gpu else None

    def gpus_named(self, text: str) -> tuple[GpuFacts, ...]:
        """Every GPU that `text` may name, the smallest memory first."""
        return names.all_named(self._meanings, text)

    def gfd_product(self, gpu_model: str) -> str:
        """The node label's value for a canonical model, as GPU feature discovery writes it.

        Raises:
            KeyError: if there is no such model.
        """
        return self.gpus[gpu_model].product

    # What it costs

    def price(
        self,
        provider: str,
        region: str,
        instance_type: str,
        capacity_type: CapacityType,
        zone: str | None = None,
        zone_name: str = "",
        gpu_model: str = "",
        gpus: float = 0.0,
    ) -> Figure | None:
        """USD per node-hour.

        A price by GPU model holds for a node that has `gpus` of `gpu_model`, where its layer has none by instance type.

        A spot price is the zone's where that is known, else the region's. AWS zones are ids (`use1-az4`), as names
        (`us-east-1a`) differ by account; what is known by name, for this account, is found by `zone_name`. Reserved
        capacity is paid for already: zero. An owned machine costs its purchase, spread over its life as if it were
        always in use; power and people come on top.
        """
        by_type = tuple(_price_keys(provider, region, instance_type, capacity_type, (zone or "", zone_name)))
        by_gpu = tuple(key._replace(instance_type=name) for name in self._spellings(gpu_model) for key in by_type)
        for layer in self.layers:
            for key in by_type:
                if key in layer.prices:
                    return layer.prices[key]
            for key in by_gpu if layer.gpu_prices else ():
                if key in layer.gpu_prices:
                    per_gpu = layer.gpu_prices[key]
                    return replace(per_gpu, value=per_gpu.value * gpus)
        if capacity_type is CapacityType.RESERVED:
            return _by_definition(0.0, "already paid for: the marginal price is zero")
        if capacity_type is CapacityType.OWNED:
            machine = self.instance_type(provider, instance_type)
            return self.owned_usd_per_node_hour(machine.gpu_model, machine.gpu_count) if machine else None
        return None

    def _spellings(self, gpu_model: str) -> tuple[str, ...]:
        """Every spelling that means this model and no other."""
        gpu = self.gpus.get(gpu_model)
        if gpu is None:
            return ()
        spelt = dict.fromkeys(names.spell(name) for name in (gpu.model, gpu.product, *gpu.aliases))
        return tuple(name for name in spelt if len(self._meanings.get(name, ())) == 1)

    def list_price(self, provider: str, region: str, instance_type: str) -> Figure | None:
        """USD per node-hour on demand: what savings are measured against."""
        return self.price(provider, region, instance_type, CapacityType.ON_DEMAND)

    def owned_usd_per_node_hour(self, gpu_model: str, gpu_count: float) -> Figure | None:
        """USD per hour of a machine of our own, from what its GPUs cost with their share of the server."""
        gpu = self.gpu(gpu_model)
        if gpu is None or gpu.capex_usd is None:
            return None
        years = self.assumptions.amortisation_years
        return _weakest(gpu_count * gpu.capex_usd.value / (years.value * HOURS_PER_YEAR), gpu.capex_usd, years)

    def egress_usd_per_gb(self, provider: str, from_region: str, to_provider: str, to_region: str) -> Figure | None:
        """USD per GB (10^9 bytes) moved. Nothing inside a region; the internet's rate to another provider.

        Rates are of the first, dearest tier. A pair of regions that no list names gets the internet's rate, which
        is an upper bound, as an estimate.
        """
        inside = (provider, from_region) == (to_provider, to_region)
        for layer in self.layers:
            for route in (
                Route(provider, from_region, to_provider, to_region),
                Route(provider, ANY, to_provider, to_region),
                *(() if inside else (Route(provider, from_region, to_provider), Route(provider, ANY, to_provider))),
            ):
                if figure := layer.egress.get(route):
                    return figure
        if inside:
            return _by_definition(0.0, "inside one region")
        internet = self._first(
            lambda layer: layer.egress, (Route(provider, from_region, INTERNET), Route(provider, ANY, INTERNET))
        )
        if internet is None or provider != to_provider:
            return internet
        return replace(
            internet, source=f"{internet.source}: internet rate as upper bound", confidence=Confidence.ESTIMATE
        )

    def storage_usd_per_gb_month(self, provider: str, region: str) -> Figure | None:
        """USD per GB-month of network block storage of the usual kind."""
        return self._first(lambda layer: layer.storage, _places(provider, region))

    def tariff_usd_per_kwh(self, region: str) -> Figure | None:
        """USD per kWh for machines of our own. What comes with the package is a scenario, not a bill: override it."""
        return self._first(lambda layer: layer.tariffs, (region, ANY))

    def licence_usd_per_gpu_hour(self, name: str) -> Figure | None:
        """USD per GPU-hour of a software licence."""
        return self._first(lambda layer: layer.licences, (name,))

    def labour_usd_per_job_hour(self) -> Figure | None:
        """USD per hour that a job runs, for those who look after it."""
        return next((layer.labour_usd_per_job_hour for layer in self.layers if layer.labour_usd_per_job_hour), None)

    def carbon_usd_per_tonne(self) -> Figure | None:
        """USD per tonne of CO2e, where the user sets a price."""
        return next((layer.carbon_usd_per_tonne for layer in self.layers if layer.carbon_usd_per_tonne), None)

    # What it draws, emits and risks

    def carbon_g_per_kwh(self, provider: str, region: str) -> Figure | None:
        """Grams of CO2e per kWh, of the kind `carbon_signal` and no other."""
        keys = ((self.carbon_signal, place) for place in _places(provider, region))
        return self._first(lambda layer: layer.carbon, keys)

    def pue(self, provider: str, region: str) -> Figure | None:
        """Power usage effectiveness: what the building draws over what its machines do."""
        return self._first(lambda layer: layer.pue, _places(provider, region))

    def interruptions_per_hour(
        self, provider: str, region: str, instance_type: str, zone: str | None = None
    ) -> Figure | None:
        """How often spot takes one node away, per hour that it is held. A prior, until own experience is better."""
        machine = self.instance_type(provider, instance_type)
        whats = (instance_type, *((machine.gpu_model,) if machine else ()), ANY)
        wheres = (*(((region, zone),) if zone else ()), (region, ""), (ANY, ""))
        keys = [SpotKey(provider, region_, what, zone_) for region_, zone_ in wheres for what in whats]
        return self._first(lambda layer: layer.interruptions, keys)

    def node_watts(self, provider: str, instance_type: str) -> Figure | None:
        """Watts of a whole node at its peak. A training run draws about `assumptions.training_load_fraction` of it."""
        machine = self.instance_type(provider, instance_type)
        return self.watts_of(machine.gpu_model, machine.gpu_count) if machine else None

    def watts_of(self, gpu_model: str, gpu_count: float) -> Figure | None:
        """Peak watts of so many GPUs with their share of the host."""
        gpu = self.gpu(gpu_model)
        if gpu is None or gpu.tdp_watts is None:
            return None
        host = self.assumptions.host_watts_per_gpu
        figure = _weakest(gpu_count * (gpu.tdp_watts.value + host.value), gpu.tdp_watts, host)
        return replace(figure, confidence=Confidence.DERIVED)

    def _first(self, figures: Callable[[Layer], Mapping[Key, Figure]], keys: Iterable[Key]) -> Figure | None:
        wanted = tuple(keys)
        for layer in self.layers:
            known = figures(layer)
            for key in wanted:
                if key in known:
                    return known[key]
        return None


def _price_keys(
    provider: str, region: str, instance_type: str, capacity_type: CapacityType, zones: Iterable[str]
) -> Iterable[PriceKey]:
    for zone in zones:
        if zone:
            yield PriceKey(provider, region, instance_type, capacity_type, zone)
    yield PriceKey(provider, region, instance_type, capacity_type)
    yield PriceKey(provider, ANY, instance_type, capacity_type)
    yield PriceKey(ANY, region, instance_type, capacity_type)
    yield PriceKey(ANY, ANY, instance_type, capacity_type)


def _places(provider: str, region: str) -> tuple[Place, Place]:
    return Place(provider, region), Place(provider, ANY)


def _by_definition(value: float, reason: str) -> Figure:
    return Figure(value=value, source=reason, as_of=None, confidence=Confidence.DEFINITION)


def _weakest(value: float, *parts: Figure) -> Figure:
    """A figure computed from others: as old as the oldest, and an estimate if any of them is."""
    dates: list[date | None] = [part.as_of for part in parts]
    known = [day for day in dates if day is not None]
    guessed = any(part.confidence is Confidence.ESTIMATE for part in parts)
    return Figure(
        value=value,
        source=" + ".join(dict.fromkeys(part.source for part in parts)),
        as_of=min(known) if len(known) == len(dates) else None,
        confidence=Confidence.ESTIMATE if guessed else Confidence.DERIVED,
    )
