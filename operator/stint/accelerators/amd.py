"""AMD Instinct."""

from __future__ import annotations

from stint.accelerators.vendor import Vendor

AMD = Vendor(name="amd", resource="amd.com/gpu", brands=("amd", "instinct"))
