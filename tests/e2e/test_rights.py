"""Every right that the chart grants is used, and nothing is asked for that it does not grant: by the audit log."""

from __future__ import annotations

import json
from functools import partial

import pytest

from hack.cluster import Cluster, eventually
from stint.capacity.adapter import Target
from stint.capacity.registry import rights_of
from stint.kube.rbac import (
    ALWAYS,
    WITH_POD_GROUPS,
    WITH_STEERING,
    Right,
    with_config_map,
)
from tests.e2e import others

DEPLOYMENTS = Target(api_version="apps/v1", resource="deployments")

pytestmark = pytest.mark.e2e

# Asked for once the same event has happened again after a minute; tests/unit/kube/test_events.py shows it.
LATE = {("patch", "events.k8s.io", "events")}
# Asked for once a run has told its progress for ten minutes; test_calibration.py shows it.
LATE |= {(verb, "", "configmaps") for verb in ("create", "patch")}
# Asked for once a day; tests/unit/controllers/test_daily_spend.py shows it.
LATE |= {("delete", "stint.dev", "dailyspends")}
# What everybody may ask who has an account.
EVERYBODYS = {"selfsubjectaccessreviews"}


def asked(cluster: Cluster) -> set[tuple[str, str, str]]:
    """Verb, group and resource of the operator's requests that were allowed."""
    log = cluster.provider.audit_log
    assert log is not None
    found = set()
    for event in map(json.loads, log.read_text().splitlines()):
        ref = event.get("objectRef")
        if event["user"].get("username") != "system:serviceaccount:stint-system:stint" or ref is None:
            continue
        sub = f"/{ref['subresource']}" if "subresource" in ref else ""
        if ref.get("resource") and ref["resource"] not in EVERYBODYS:
            found.add((event["verb"], ref.get("apiGroup", ""), ref["resource"] + sub))
    return found


def key(right: Right) -> tuple[str, str, str]:
    return right.verb, right.group, right.resource


def goes(world, name: str) -> None:
    eventually(lambda: world.kubectl("get", "tj", name, "--ignore-not-found") == "", what=f"{name} to go")


def other_peoples_day(world) -> None:
    """Each kind that is suspended and resumed to have its pods made anew, and a pod that does not want to wait."""
    world.cluster.kubectl("label", "namespace", world.name, "stint.dev/managed=true")
    node = world.node("others")
    alike = ((kind, partial(others.kubeflowjob, kind=kind), f"{kind.lower()}-train") for kind in others.KUBEFLOW)
    for kind, make, name in (
        *alike,
        ("PyTorchJob", others.pytorchjob, "pytorchjob-train"),
        ("JobSet", others.jobset, "jobset-train"),
        ("TrainJob", others.trainjob, "jobset-train"),
    ):
        world.apply(make(world))
        others.control(world, kind, "train")
        world.until("Running", name)
        world.kubectl("patch", "tj", name, "--type=merge", "-p", '{"spec":{"suspend":true}}')
        world.until("Suspended", name)
        if kind == "PyTorchJob":
            world.kubectl("annotate", "pods", "--all", "stint.dev/release=now")
            others.control(world, kind, "train")
            world.kubectl("annotate", "pods", "--all", "stint.dev/release=now", "--overwrite")
            goes(world, name)
        world.kubectl("delete", kind.lower(), "train")
        goes(world, name)
    world.cluster.kubectl("delete", "node", node)


def test_each_right_is_used_and_no_other_is_asked_for(world):
    """A day of small things: a gang runs, is suspended, loses its node, fails; pools grow, shrink and are scaled."""
    other_peoples_day(world)
    node = world.node("a", gpus=2)
    world.apply(world.job("suspended", workers=2, gpus=1))
    world.until("Running", "suspended")
    world.kubectl("patch", "tj", "suspended", "--type=merge", "-p", '{"spec":{"suspend":true}}')
    world.until("Suspended", "suspended")
    failing = {"sim.stint.dev/run-for": "100ms", "sim.stint.dev/exit-code": "3"}
    world.apply(world.job("fails", workers=1, gpus=1, retries=1, annotations=failing))
    world.until("Failed", "fails", timeout=60)
    world.apply(world.job("loses", workers=2, gpus=1))
    world.until("Running", "loses")
    world.cluster.kubectl("annotate", "node", node, "kwok.x-k8s.io/node-")
    world.cluster.kubectl("delete", "node", node)
    world.until("Queued", "loses")
    world.kubectl("delete", "tj", "--all")
    world.apply(
        {
            "apiVersion": "stint.dev/v1alpha1",
            "kind": "PriceBook",
            "metadata": {"name": world.name},
            "spec": {"prices": [{"provider": "nobody", "instanceType": "none.large", "usdPerNodeHour": 1}]},
        }
    )
    pool = world.pool("grows", most=1)
    world.apply(world.job("bought", workers=1, gpus=4, annotations={"sim.stint.dev/run-for": "500ms"}))
    world.until("Succeeded", "bought")
    eventually(
        lambda: json.loads(world.kubectl("get", "gp", pool, "-o", "json"))["status"]["nodes"] == 0,
        what="the node to be given back",
    )
    pods = {"metadata": {"labels": {"app": "nodes"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    spec = {"replicas": 0, "selector": {"matchLabels": {"app": "nodes"}}, "template": pods}
    meta = {"name": "nodes", "namespace": world.name}
    world.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})
    target = {"apiVersion": "apps/v1", "resource": "deployments", "namespace": world.name, "name": "nodes"}
    world.kubectl("delete", "tj", "--all")
    world.cluster.kubectl("delete", "gp", pool)
    world.pool("scaled", most=2, scaler={"adapter": "Scale", "mode": "Act", "target": target}, coldStartSeconds=60)
    world.apply(world.job("scaled", workers=1, gpus=4))
    world.until("Provisioning", "scaled")
    granted = {key(r) for r in (*ALWAYS, *WITH_STEERING, *rights_of("Kwok", None), *rights_of("Scale", DEPLOYMENTS))}
    granted |= {key(r) for r in WITH_POD_GROUPS if world.cluster.provider.pod_groups}

    def unused() -> set[tuple[str, str, str]]:
        return granted - LATE - asked(world.cluster)

    eventually(lambda: not unused(), what="every right to be used", timeout=60)
    by_sources = {key(r) for r in with_config_map("e2e-rates")}  # test_feeds.py asks for it
    assert asked(world.cluster) <= granted | by_sources, "something is asked for that the chart does not grant"
