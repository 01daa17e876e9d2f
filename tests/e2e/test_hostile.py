"""A tenant can hurt himself only: whatever he does, the others' next job runs where it should, at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hack.cluster import eventually
from hack.hostile import ATTACKS, NEED_A_CHEAPER_NODE, Target, Tenant
from tests.e2e import others
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e

SPOT = {"karpenter.sh/capacity-type": "spot"}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_tenant_hurts_nobody_else(world: World, attack: str):
    node = world.node("a")
    cheaper = world.node("b", labels=SPOT) if attack in NEED_A_CHEAPER_NODE else ""
    tenant = Tenant.settle(world.cluster, f"{world.name}-tenant")
    try:
        holds = ATTACKS[attack](tenant, Target(node, {"test": world.name}, cheaper))
        world.apply(world.job("victim"))
        status = world.until("Running", "victim", timeout=20)
        assert status["nodes"] == {node: "0-1"}
        assert status.get("rollbacks", 0) == 0
        eventually(lambda: [holds()], timeout=20, what="the tenant to be told")
    finally:
        tenant.kubectl("delete", "tj,jobs,pods", "--all", "--wait=false", "--grace-period=0", "--force")
        world.cluster.kubectl("delete", "namespace", tenant.namespace, "--wait=false")


def patched(world: World, what: str, patch: dict[str, Any]) -> None:
    world.kubectl("patch", *what.split(), "--type=merge", "-p", json.dumps(patch))


def in_the_way(world: World) -> None:
    status = world.until("Queued", reason="Incomplete")
    assert "a Job job is there that does not belong to this TrainingJob" in status["message"]
    assert f"kubectl delete job job -n {world.name}" in status["message"]


class TestJobsThatShareAName:
    def test_made_again_while_the_first_ones_job_is_there_it_runs_and_is_not_told_to_have_finished(self, world: World):
        world.node("a")
        world.apply(world.job())
        world.until("Running")
        for pod in world.pods():
            world.kubectl("annotate", "pod", pod["metadata"]["name"], "sim.stint.dev/run-for=1s")
        world.until("Succeeded")
        world.kubectl("delete", "tj", "job", "--cascade=orphan")
        world.apply(world.job())
        in_the_way(world)
        world.kubectl("delete", "job", "job")
        status = world.until("Running")
        assert status["nodes"] == {f"{world.name}-a": "0-1"}

    def test_orphans_run_on_and_are_told_to_be_in_the_way(self, world: World):
        world.node("a")
        world.apply(world.job())
        world.until("Running")
        before = {p["metadata"]["uid"] for p in world.pods()}
        world.kubectl("delete", "tj", "job", "--cascade=orphan")
        world.apply(world.job())
        in_the_way(world)
        assert {p["metadata"]["uid"] for p in world.pods()} == before

    def test_somebody_elses_job_without_our_label_is_told(self, world: World):
        world.node("a")
        job = others.job(world, "job")
        del job["metadata"]["labels"]
        job["spec"] |= {"parallelism": 0, "suspend": True}
        world.apply(job)
        world.apply(world.job())
        status = world.until("Queued", reason="Refused")
        assert "a Job job is there that does not belong to this TrainingJob" in status["message"]
        world.kubectl("delete", "job", "job")
        world.until("Running", timeout=60)

    def test_a_complete_job_with_the_label_of_a_running_one_ends_nothing(self, world: World):
        world.node("a")
        world.node("b")
        world.apply(world.job())
        nodes = world.until("Running")["nodes"]
        done = others.job(world, "done", parallelism=1, completions=1)
        done["metadata"]["labels"] = {"stint.dev/trainingjob": "job"}
        done["spec"]["template"]["metadata"] = {"annotations": {"sim.stint.dev/run-for": "1s"}}
        world.apply(done)
        eventually(
            lambda: world.kubectl("wait", "--for=condition=Complete", "job/done", "--timeout=20s"), what="it to end"
        )
        world.apply(world.job("next"))
        world.until("Running", "next")
        assert world.until("Running")["nodes"] == nodes

    def test_one_that_is_being_deleted_gives_back_its_nodes_and_gets_none(self, world: World):
        world.node("a")
        held = world.job()
        held["metadata"]["finalizers"] = ["example.com/stay"]
        world.apply(held)
        world.until("Running")
        world.kubectl("delete", "tj", "job", "--wait=false")
        status = world.until("Suspended", reason="Deleting")
        assert "it goes once its finalizers are removed: example.com/stay" in status["message"]
        eventually(lambda: world.pods() == [], what="its pods to go")
        world.apply(world.job("next"))
        world.until("Running", "next")
        waiting = world.job("late", suspend=True)
        waiting["metadata"]["finalizers"] = ["example.com/stay"]
        world.apply(waiting)
        world.until("Suspended", "late", reason="Suspended")
        world.kubectl("delete", "tj", "next")
        world.kubectl("delete", "tj", "late", "--wait=false")
        patched(world, "tj late", {"spec": {"suspend": False}})
        world.until("Suspended", "late", reason="Deleting")
        world.apply(world.job("after"))
        world.until("Running", "after")
        for name in ("job", "late"):
            patched(world, f"tj {name}", {"metadata": {"finalizers": None}})
        eventually(lambda: "late" not in world.kubectl("get", "tj", "-o", "name"), what="it to go")


class TestPlans:
    def test_a_running_gangs_plan_that_somebody_edits_moves_nothing(self, world: World):
        node, other = world.node("a"), world.node("b")
        world.apply(world.job())
        told = world.until("Running")["nodes"]
        before = {p["metadata"]["uid"] for p in world.pods()}
        at = next(iter(told))
        free = ({node, other} - {at}).pop()
        note = json.loads(world.kubectl("get", "job", "job", "-o", "json"))["metadata"]["annotations"]["stint.dev/plan"]
        patched(
            world, "job job", {"metadata": {"annotations": {"stint.dev/plan": note, "stint.dev/plan-signature": ""}}}
        )
        world.apply(world.job("next"))
        assert world.until("Running", "next")["nodes"] == {free: "0-1"}
        assert {p["metadata"]["uid"] for p in world.pods()} == before, "it has all its nodes"

    def test_one_for_other_nodes_is_not_believed(self, world: World):
        node, other = world.node("a"), world.node("b")
        world.apply(world.job())
        at = next(iter(world.until("Running")["nodes"]))
        free = ({node, other} - {at}).pop()
        note = json.loads(world.kubectl("get", "job", "job", "-o", "json"))["metadata"]["annotations"]["stint.dev/plan"]
        moved = {"stint.dev/plan": note.replace(at, free)}
        patched(world, "job job", {"metadata": {"annotations": moved}})
        world.apply(world.job("next"))
        world.until("Running", "next")
        status = world.until("Running", timeout=60)
        assert len({*status["nodes"], *world.status("next")["nodes"]}) == 2
