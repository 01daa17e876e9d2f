"""What every capacity adapter must do, whatever it acts on: the next one adds its world to `WORLDS`."""

from __future__ import annotations

import pytest

from stint.capacity.adapter import CapacityAdapter
from stint.capacity.registry import ADAPTERS
from stint.testing.suites import CAPACITY_CHECKS, CapacityCheck
from tests.unit.capacity.worlds import WORLDS


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("check", CAPACITY_CHECKS, ids=lambda check: check.__name__)
async def test_every_adapter(name: str, check: CapacityCheck) -> None:
    assert name in WORLDS, f"say in tests/unit/capacity/worlds.py what the {name} adapter acts on"
    await check(ADAPTERS[name], WORLDS[name]())


@pytest.mark.parametrize("name", ADAPTERS)
def test_its_traits_are_complete(name: str) -> None:
    adapter = ADAPTERS[name]
    assert isinstance(adapter, CapacityAdapter)
    assert adapter.traits.name == name
    assert adapter.traits.granted.startswith("Only ")
    assert not adapter.traits.about.endswith(".")
    assert not adapter.traits.needs_target or adapter.rights(None) == (), "without a target there is nothing to act on"
