"""The chart's whole life with the real image: installed, upgraded, rolled back, tested, walled in, taken away."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack.cluster import NAMESPACE, ROOT, Cluster, Operator, eventually, find_kubectl, get
from hack.cluster.kind import Kind
from tests.e2e.conftest import World
from tests.e2e.kind.conftest import Trainer

PREVIOUS = Path(__file__).resolve().parent / "charts" / "stint-0.1.0.tgz"
SECOND = "second"


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Any]:
    """Installs a second release, whose Lease is its own, in a namespace that allows only restricted pods."""
    cluster.kubectl("create", "namespace", SECOND)
    cluster.kubectl("label", "namespace", SECOND, "pod-security.kubernetes.io/enforce=restricted")

    def install(chart: Path, image: str, *sets: str) -> None:
        repository, _, tag = image.partition(":")
        ours = (f"image.repository={repository}", f"image.tag={tag}", "image.pullPolicy=Never", "crds.enabled=false")
        values = [part for s in (*ours, "replicaCount=2", *sets) for part in ("--set", s)]
        cluster.helm("upgrade", "--install", SECOND, str(chart), "-n", SECOND, "--wait", "--timeout=120s", *values)

    yield install
    cluster.helm("uninstall", SECOND, "-n", SECOND, "--wait", "--ignore-not-found")
    cluster.kubectl("delete", "namespace", SECOND, "--timeout=60s")


def _image(cluster: Cluster) -> str:
    assert isinstance(cluster.provider, Kind)
    return ":".join(cluster.provider.load_stint())


def _previous_image(kind: Kind, image: str) -> str:
    """The present program as the previous chart calls it: it gave arguments only, the image said of what."""
    name = "stint:0.1.0"
    folder = kind.state / "previous"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(f'FROM {image}\nENTRYPOINT ["stint"]\n')
    kind.docker.run("build", "--quiet", "--tag", name, str(folder))
    kind.load(name)
    return name


@pytest.fixture
def present_rights(cluster: Cluster) -> Iterator[None]:
    """For the second release: the present program needs more than the previous chart grants, which its own did not."""
    chart = str(ROOT / "charts" / "stint")
    rendered = yaml.safe_load_all(cluster.helm("template", SECOND, chart, "--show-only", "templates/rbac.yaml"))
    roles = [o for o in rendered if o["kind"] in ("ClusterRole", "Role") and o["metadata"]["name"] == f"{SECOND}-stint"]
    assert {o["kind"] for o in roles} == {"ClusterRole", "Role"}
    rules = [rule for o in roles for rule in o["rules"]]
    rbac, name = "rbac.authorization.k8s.io", f"{SECOND}-present"
    role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": f"{SECOND}-stint", "namespace": SECOND}],
    }
    cluster.apply([role, binding])
    yield
    cluster.kubectl("delete", "clusterrole,clusterrolebinding", name)


def _command(cluster: Cluster) -> list[str]:
    deployment = cluster.get("deployment", f"{SECOND}-stint", "-n", SECOND)
    container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return [*container.get("command", []), container["args"][0]]


def test_the_previous_chart_is_upgraded_and_rolled_back_without_a_gap(
    shared_operator: Operator, cluster: Cluster, second: Any, present_rights: None
):
    """Every step waits until all replicas are ready, under restricted pod security."""
    assert isinstance(cluster.provider, Kind)
    image = _image(cluster)
    previous = _previous_image(cluster.provider, image)
    second(PREVIOUS, previous)
    assert _command(cluster) == ["run"]
    second(ROOT / "charts" / "stint", image)
    assert _command(cluster) == ["stint", "run"]
    cluster.helm("rollback", SECOND, "1", "-n", SECOND, "--wait", "--timeout=120s")
    assert _command(cluster) == ["run"]
    history = json.loads(cluster.helm("history", SECOND, "-n", SECOND, "-o", "json"))
    assert [entry["status"] for entry in history] == ["superseded", "superseded", "deployed"]


def test_helms_own_test_asks_for_the_metrics(shared_operator: Operator, cluster: Cluster):
    told = cluster.helm("test", "stint", "-n", NAMESPACE, "--timeout=60s")
    assert "Succeeded" in told


def test_the_network_policy_lets_through_what_is_needed_and_nothing_else(cluster: Cluster, second: Any, world: World):
    """Enforced for real: the operator works behind it; other ports of it, and other places from it, are shut."""
    second(ROOT / "charts" / "stint", _image(cluster), "networkPolicy.enabled=true")
    pod = cluster.get("pods", "-n", SECOND, "-l", "app.kubernetes.io/instance=second")["items"][0]
    address = pod["status"]["podIP"]

    def reaches(namespace: str, inside: str, host: str, port: int) -> bool:
        """Whether anything answers, if only to refuse."""
        code = f"import socket; s = socket.socket(); s.settimeout(3); print(s.connect_ex(('{host}', {port})))"
        told = int(cluster.kubectl("exec", "-n", namespace, inside, "--", "python", "-c", code))
        assert told in (0, errno.ECONNREFUSED, errno.EAGAIN), os.strerror(told)
        return told != errno.EAGAIN  # no answer in time

    (monitor,) = cluster.get("pods", "-n", "monitoring", "-l", "app=exporter")["items"]
    asker = monitor["metadata"]["name"]
    assert reaches("monitoring", asker, address, 8080)
    assert not reaches("monitoring", asker, address, 9999)
    mine = pod["metadata"]["name"]
    assert reaches(SECOND, mine, "kubernetes.default.svc", 443)
    assert reaches(SECOND, mine, "prometheus.monitoring.svc", 9090)
    assert not reaches(SECOND, mine, monitor["status"]["podIP"], 9400)


def test_uninstalling_keeps_jobs_and_what_runs_and_a_new_install_takes_it_up(
    trainer: Trainer, cluster: Cluster, shared_operator: Operator
):
    world = trainer.world
    world.apply(trainer.job(steps=400, step_seconds=0.1))
    before = world.until("Running", timeout=60)
    uids = {p["metadata"]["uid"] for p in world.pods()}
    values = cluster.helm("get", "values", "stint", "-n", NAMESPACE, "-o", "yaml")
    cluster.helm("uninstall", "stint", "-n", NAMESPACE, "--wait")
    try:
        assert "trainingjobs.stint.dev" in cluster.kubectl("get", "crd", "-o", "name")
        assert world.status()["nodes"] == before["nodes"]
        assert {p["metadata"]["uid"] for p in world.pods()} == uids
    finally:
        file = cluster.state / "values.yaml"
        file.write_text(values)
        chart = str(ROOT / "charts" / "stint")
        cluster.helm("install", "stint", chart, "-n", NAMESPACE, "-f", str(file), "--wait", "--timeout=120s")
    eventually(lambda: "stint_leader 1.0" in shared_operator.metrics(), timeout=40, what="a new leader")
    world.kubectl("patch", "tj", "job", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    world.until("Suspended", timeout=60)


def test_kubectl_stint_works_from_outside(cluster: Cluster, shared_operator: Operator):
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(cluster.kubeconfig)}
    command = [str(find_kubectl(cluster.provider)), "stint", "prices", "--catalogue", "--gpu", "L4"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "g6.12xlarge" in told
    plan = subprocess.run([*command[:2], "plan"], env=environment, capture_output=True, text=True, check=True).stdout
    assert "jobs" in plan.lower()


def test_prometheus_in_the_cluster_scrapes_the_operator(prometheus: str, shared_operator: Operator):
    def up() -> bool:
        answer = json.loads(get(f"{prometheus}/api/v1/query?query=up%7Bjob%3D%22stint%22%7D") or "{}")
        return [r["value"][1] for r in answer["data"]["result"]] == ["1", "1"]

    eventually(up, timeout=30, what="Prometheus to have scraped both replicas", every=0.5)
