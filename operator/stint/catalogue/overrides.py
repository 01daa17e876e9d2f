"""The user's own numbers: contracts, tariffs, meters. They beat everything that came with the package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from typing import TypeVar

from stint.catalogue.hardware import GpuFacts
from stint.catalogue.layer import CarbonSignal, Layer, Place, PriceKey, Route, SpotKey
from stint.catalogue.names import spell
from stint.model.figure import Confidence, Figure

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """A price book. `ANY` in a key stands for everything that the book does not name.

    Raises:
        ValueError: naming the entry, if a number is negative, nan or infinite.
    """

    name: str
    as_of: date | None = None  # when the numbers held; None: unknown, so they count as stale
    prices: Mapping[PriceKey, float] = field(default_factory=dict)  # USD per node-hour
    gpu_prices: Mapping[PriceKey, float] = field(default_factory=dict)  # USD per GPU-hour, by model
    gpus: Mapping[str, GpuFacts] = field(default_factory=dict)  # models that the user teaches, by name
    egress: Mapping[Route, float] = field(default_factory=dict)  # USD per GB
    storage: Mapping[Place, float] = field(default_factory=dict)  # USD per GB-month
    carbon: Mapping[Place, float] = field(default_factory=dict)  # g CO2e per kWh, of kind `carbon_signal`
    carbon_signal: CarbonSignal = CarbonSignal.AVERAGE_LIFECYCLE
    pue: Mapping[Place, float] = field(default_factory=dict)
    tariffs: Mapping[str, float] = field(default_factory=dict)  # USD per kWh, by region
    interruptions: Mapping[SpotKey, float] = field(default_factory=dict)  # per node-hour
    licences: Mapping[str, float] = field(default_factory=dict)  # USD per GPU-hour
    labour_usd_per_job_hour: float | None = None
    carbon_usd_per_tonne: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be a price."""
        for entry in fields(self):
            numbers = getattr(self, entry.name)
            if isinstance(numbers, (int, float)):
                numbers = {"": numbers}
            if not isinstance(numbers, Mapping) or entry.name == "gpus":
                continue
            for key, value in numbers.items():
                if not 0 <= value < float("inf"):
                    raise ValueError(f"{entry.name} {key}: must be finite and >= 0, not {value}".replace(" :", ":"))

    def layer(self) -> Layer:
        """The same numbers as figures."""
        return Layer(
            prices=self._figures(self.prices),
            gpu_prices={
                key._replace(instance_type=spell(key.instance_type)): self._figure(value)
                for key, value in self.gpu_prices.items()
            },
            egress=self._figures(self.egress),
            storage=self._figures(self.storage),
            carbon={(self.carbon_signal, place): self._figure(value) for place, value in self.carbon.items()},
            pue=self._figures(self.pue),
            tariffs=self._figures(self.tariffs),
            interruptions=self._figures(self.interruptions),
            licences=self._figures(self.licences),
            labour_usd_per_job_hour=self._maybe(self.labour_usd_per_job_hour),
            carbon_usd_per_tonne=self._maybe(self.carbon_usd_per_tonne),
        )

    def _figures(self, numbers: Mapping[Key, float]) -> dict[Key, Figure]:
        return {key: self._figure(value) for key, value in numbers.items()}

    def _figure(self, value: float) -> Figure:
        return Figure(
            value=float(value), source=f"pricebook/{self.name}", as_of=self.as_of, confidence=Confidence.OVERRIDE
        )

    def _maybe(self, value: float | None) -> Figure | None:
        return None if value is None else self._figure(value)
