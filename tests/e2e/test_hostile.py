"""A tenant can hurt himself only: whatever he does, the others' next job runs where it should, at once."""

from __future__ import annotations

import pytest

from hack.cluster import eventually
from hack.hostile import ATTACKS, Target, Tenant
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_tenant_hurts_nobody_else(world: World, attack: str):
    node = world.node("a")
    tenant = Tenant.settle(world.cluster, f"{world.name}-tenant")
    try:
        holds = ATTACKS[attack](tenant, Target(node, {"test": world.name}))
        world.apply(world.job("victim"))
        status = world.until("Running", "victim", timeout=20)
        assert status["nodes"] == {node: "0-1"}
        assert status.get("rollbacks", 0) == 0
        eventually(lambda: [holds()], timeout=20, what="the tenant to be told")
    finally:
        world.cluster.kubectl("delete", "namespace", tenant.namespace, "--wait=false")
