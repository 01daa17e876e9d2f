"""Intel Gaudi, by Habana."""

from __future__ import annotations

from stint.accelerators.vendor import Vendor

INTEL = Vendor(
    name="intel",
    resource="habana.ai/gaudi",
    brands=("intel", "habana"),
    remedy="Intel Gaudi is not recognised by labels yet: give gpuModel Gaudi2 or Gaudi3 there",
)
