"""How to add a capacity adapter: the class below would be its file, and `added` its line in the registry.

Nothing else changes. The CRD accepts the adapter's name, the observer goes by its traits, its rights are asked for at
start, plans are carried out through it, and the suite that every adapter passes holds for it. `rbac.rules` of the chart
takes its rights; to have them granted by a value of their own, add that to the chart's templates/rbac.yaml, which
tests/unit/charts/test_rights.py compares with the registry.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.capacity import registry
from stint.capacity.adapter import CapacityAdapter, Client, Order, Outcome, Target, Traits, Watch
from stint.errors import ApiError
from stint.kube import rbac
from stint.model.job import NodeName
from stint.model.right import Right, rights
from stint.testing.fake_api import FakeApi
from stint.testing.suites import CAPACITY_CHECKS, CapacityCheck
from tests.unit.capacity.test_orders import a_busy_pod, a_node, a_pool, a_resize, act, look
from tests.unit.capacity.worlds import Replicas

WISHES = "/api/v1/namespaces/infra/configmaps/wishes"


class NoteAdapter:
    """Writes into a ConfigMap how many nodes there should be; a script of somebody's reads it and makes them."""

    traits = Traits(
        name="Note",
        about="a number in a ConfigMap",
        chooses_nodes=True,
        announces_nodes=False,
        one_offering=False,
        needs_target=True,
        granted="Only for what you grant yourself",
        watches=(Watch(group="infra.example.com", version="v1", resource="machines"),),
    )

    def rights(self, target: Target | None) -> Sequence[Right]:
        if target is None:
            return ()
        return rights("get patch", target.group, target.resource, "a script of yours learns how many nodes to make")

    async def carry_out(self, order: Order, client: Client) -> Outcome:
        assert order.target is not None
        try:
            there = await client.get(order.target.path)
            had = int((there.get("data") or {}).get(order.pool, "0"))
            stays = bool(order.busy) or order.to_nodes > order.from_nodes  # the script chooses which ones go
            wanted = max(order.to_nodes, had if stays else 0)
            if wanted != had:
                await client.patch(order.target.path, {"data": {order.pool: str(wanted)}})
        except ApiError as error:
            return Outcome(refused=str(error))
        return Outcome(note=f"{len(order.busy)} nodes are busy" if wanted > order.to_nodes else "")


class Wishes:
    """As many nodes as the ConfigMap says."""

    target: Target | None = Target(api_version="v1", resource="configmaps", namespace="infra", name="wishes")

    def __init__(self) -> None:
        self.api = FakeApi({WISHES: {"data": {}}})

    def nodes(self) -> tuple[NodeName, ...]:
        wanted = self.api.objects[WISHES]["data"] if WISHES in self.api.objects else {}
        return tuple(NodeName(f"n{i}") for i in range(int(wanted.get("pool", "0"))))


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> CapacityAdapter:
    adapter = NoteAdapter()
    monkeypatch.setitem(registry.ADAPTERS, adapter.traits.name, adapter)
    return adapter


@pytest.mark.parametrize("check", CAPACITY_CHECKS, ids=lambda check: check.__name__)
async def test_it_passes_the_suite(check: CapacityCheck) -> None:
    await check(NoteAdapter(), Wishes())


def noting(pool: GPUPool) -> GPUPool:
    """With the new adapter: as the API server hands it over once the CRD has its name."""
    assert pool.spec.scaler is not None
    target = msgspec.convert(
        {"apiVersion": "v1", "resource": "configmaps", "namespace": "infra", "name": "wishes"},
        type(pool.spec.scaler.target),
    )
    scaler = msgspec.structs.replace(pool.spec.scaler, adapter="Note", target=target)
    return msgspec.structs.replace(pool, spec=msgspec.structs.replace(pool.spec, scaler=scaler))


@pytest.mark.usefixtures("added")
def test_its_rights_are_asked_for_and_only_where_a_pool_uses_it():
    pool = noting(a_pool("us-east-1a"))
    more = {str(r) for r in set(rbac.needed([pool])) - set(rbac.needed([]))}
    assert more == {"get configmaps", "patch configmaps"} | {
        f"{verb} machines.infra.example.com" for verb in ("list", "watch")
    }
    assert [w.path for w in registry.watches()] == ["/apis/infra.example.com/v1/machines"]


@pytest.mark.usefixtures("added")
def test_the_observer_goes_by_its_traits():
    pool = noting(a_pool("us-east-1a"))
    seen = look(pool, a_node("n1"), a_node("n2"), pods=(a_busy_pod("n2"),))
    assert not any(n.removable for n in seen.situation.nodes), "it chooses itself which nodes go"
    ordered = msgspec.structs.replace(pool.status, wanted_nodes=3, ordered_at=seen.situation.now)
    seen = look(msgspec.structs.replace(pool, status=ordered), a_node("n1"), a_node("n2"))
    assert sum(n.ready_at is not None for n in seen.situation.nodes) == 1, "what is on order has no Node object yet"


class NotingWishes(Wishes, Replicas):
    """For `act`, which writes statuses, too."""


@pytest.mark.usefixtures("added")
async def test_plans_are_carried_out_through_it():
    pool, world = noting(a_pool("us-east-1a")), NotingWishes()
    seen = look(pool)
    _, events = await act(pool, seen, world, a_resize(seen, "us-east-1a", 0, 2))
    assert world.api.objects[WISHES]["data"] == {"p": "2"}
    assert [reason for reason, _ in events] == ["Ordered"]


def test_the_crd_accepts_its_name_and_asks_for_what_it_needs():
    """In a process of its own: names are read once, when the resources are defined."""
    program = textwrap.dedent(
        """
        import dataclasses
        from stint.capacity import registry

        class NoteAdapter(type(registry.ADAPTERS["Scale"])):
            traits = dataclasses.replace(
                registry.ADAPTERS["Scale"].traits, name="Note", about="a number", one_offering=False
            )

        registry.ADAPTERS["Note"] = NoteAdapter()

        import msgspec
        from stint.api.crds import KINDS, definition
        from stint.api.gpupool import Scaler

        text = str(definition(next(k for k in KINDS if k.plural == "gpupools")))
        assert "'enum': ['Scale', 'Kwok', 'Note']" in text
        assert "Note: a number." in text
        assert "the Note adapter needs spec.scaler.target" in text
        assert msgspec.convert({"adapter": "Note"}, Scaler).adapter == "Note"
        try:
            msgspec.convert({"adapter": "Magic"}, Scaler)
        except msgspec.ValidationError as error:
            assert "Magic" in str(error)
        else:
            raise AssertionError("any name is accepted")
        """
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[3] / "operator")
