"""Figures by what they are about. A catalogue is a pile of layers, and the uppermost that knows an answer gives it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from stint.model.figure import Figure
from stint.model.offering import CapacityType

ANY = "*"  # all regions, instance types or destinations that no other entry names
INTERNET = "internet"  # as a destination's provider: everywhere outside the cloud that is left


class CarbonSignal(StrEnum):
    """Kinds of carbon intensity. They answer different questions, so a catalogue speaks of one at a time.

    All are of the place's grid (location-based); what a provider buys on paper (market-based) is none of them.
    """

    AVERAGE_LIFECYCLE = "average-lifecycle"  # all power on the grid, plants and fuel supply included
    AVERAGE_OPERATIONAL = "average-operational"  # all power on the grid, the smokestack only
    MARGINAL = "marginal"  # the plant that runs because of one more watt


class Concern(StrEnum):
    """What a figure from outside may be about."""

    PRICE = "price"  # USD per node-hour
    TARIFF = "tariff"  # USD per kWh of owned machines
    CARBON = "carbon"  # g CO2e per kWh
    PUE = "pue"
    INTERRUPTIONS = "interruptions"  # of spot, per node-hour


class PriceKey(NamedTuple):
    """What is bought where. No zone: the region's figure."""

    provider: str
    region: str
    instance_type: str
    capacity_type: CapacityType
    zone: str = ""


class Place(NamedTuple):
    """A provider's region."""

    provider: str
    region: str = ANY


class Route(NamedTuple):
    """From one place to another."""

    provider: str
    from_region: str
    to_provider: str
    to_region: str = ANY


class SpotKey(NamedTuple):
    """Where spot capacity of what (an instance type or a GPU model) is taken away."""

    provider: str
    region: str = ANY
    what: str = ANY
    zone: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Figures from one origin. In `prices`, None says that it is not for sale there, which ends the search."""

    prices: Mapping[PriceKey, Figure | None] = field(default_factory=dict)  # USD per node-hour
    gpu_prices: Mapping[PriceKey, Figure] = field(default_factory=dict)  # USD per GPU-hour, by spelling of the model
    egress: Mapping[Route, Figure] = field(default_factory=dict)  # USD per GB
    storage: Mapping[Place, Figure] = field(default_factory=dict)  # USD per GB-month, network block storage
    carbon: Mapping[tuple[CarbonSignal, Place], Figure] = field(default_factory=dict)  # g CO2e per kWh
    pue: Mapping[Place, Figure] = field(default_factory=dict)
    tariffs: Mapping[str, Figure] = field(default_factory=dict)  # USD per kWh, by region or country
    interruptions: Mapping[SpotKey, Figure] = field(default_factory=dict)  # per node-hour
    licences: Mapping[str, Figure] = field(default_factory=dict)  # USD per GPU-hour
    labour_usd_per_job_hour: Figure | None = None
    carbon_usd_per_tonne: Figure | None = None
