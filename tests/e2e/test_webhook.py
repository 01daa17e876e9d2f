"""The webhook that gates pods where no policy can: it does what the policies do, asked by a real API server."""

from __future__ import annotations

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from hack.cluster import Cluster, eventually, running_cluster
from hack.processes import free_port
from tests.e2e import others
from tests.e2e.conftest import World

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def gated_by_webhook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """As the chart renders it, but that the API server finds the process at an address of this machine."""
    state = tmp_path_factory.mktemp("webhook")
    with running_cluster(state, name="embedded") as cluster:
        cluster.install_workload_crds()
        cluster.install_chart("steering.enabled=true", "steering.gate=webhook")
        certificates, port = state / "certificates", free_port()
        for theirs, ours in (("apiserver.crt", "tls.crt"), ("apiserver.key", "tls.key")):
            (certificates / ours).write_bytes((certificates / theirs).read_bytes())
        config = cluster.get("mutatingwebhookconfiguration", "stint-gates-pods")
        bundle = base64.b64encode((certificates / "ca.crt").read_bytes()).decode()
        config["webhooks"][0]["clientConfig"] = {"url": f"https://127.0.0.1:{port}/gate", "caBundle": bundle}
        cluster.kubectl("replace", "-f", "-", stdin=json.dumps(config))
        operator = cluster.start_operator(
            "--steering", f"--webhook-port={port}", f"--webhook-certificates={certificates}"
        )
        yield cluster
        assert operator.failed() == ""


_made = iter(range(1000))


@pytest.fixture
def world(gated_by_webhook: Cluster) -> World:
    name = f"w{next(_made)}"
    gated_by_webhook.kubectl("create", "namespace", name)
    here = World(gated_by_webhook, name)
    eventually(lambda: here.kubectl("get", "serviceaccount", "default"), what="the namespace's ServiceAccount")
    gated_by_webhook.kubectl("label", "namespace", name, "stint.dev/managed=true")
    return here


def test_a_job_is_gated_placed_and_runs(world: World):
    world.node("a")
    world.apply(others.job(world))
    assert world.until("Running", "job-train")["gpus"] == 8


def labelled(thing: Any) -> list[str]:
    """Where below a workload's spec the label is."""
    found = []

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            if value.get("labels", {}).get("stint.dev/managed") == "true":
                found.append(path)
            for key, below in value.items():
                walk(below, f"{path}.{key}")
        elif isinstance(value, list):
            for i, below in enumerate(value):
                walk(below, f"{path}[{i}]")

    walk(thing["spec"], "spec")
    return found


@pytest.mark.parametrize(
    ("make", "paths"),
    [
        (others.job, ["spec.template.metadata"]),
        (others.jobset, [f"spec.replicatedJobs[{i}].template.metadata" for i in range(2)]),
        (others.pytorchjob, [f"spec.pytorchReplicaSpecs.{k}.template.metadata" for k in ("Master", "Worker")]),
        (others.raycluster, ["spec.headGroupSpec.template.metadata", "spec.workerGroupSpecs[0].template.metadata"]),
        (others.trainjob, ["spec.runtimePatches[0].trainingRuntimeSpec.template.metadata"]),
    ],
)
def test_labels_are_handed_down(world: World, make, paths):
    thing = make(world)
    world.apply(thing)
    assert labelled(json.loads(world.kubectl("get", thing["kind"], "train", "-o", "json"))) == paths


def test_where_the_webhook_does_not_answer_what_is_labelled_is_refused_and_nothing_else(gated_by_webhook, world: World):
    config = gated_by_webhook.get("mutatingwebhookconfiguration", "stint-gates-pods")
    url = config["webhooks"][0]["clientConfig"]["url"]
    config["webhooks"][0]["clientConfig"]["url"] = f"https://127.0.0.1:{free_port()}/gate"
    del config["metadata"]["resourceVersion"]
    gated_by_webhook.kubectl("replace", "-f", "-", stdin=json.dumps(config))
    job = others.job(world)

    def refused() -> bool:
        try:
            world.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(job))
        except RuntimeError as error:
            return "gates.stint.dev" in str(error)
        return False

    eventually(refused, what="a labelled Job to be refused")
    unlabelled = json.loads(json.dumps(job))
    del unlabelled["metadata"]["labels"]
    world.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(unlabelled))
    config["webhooks"][0]["clientConfig"]["url"] = url
    gated_by_webhook.kubectl("replace", "-f", "-", stdin=json.dumps(config))
    eventually(lambda: not refused(), what="it to be taken again")


def test_nonsense_is_answered_in_words(gated_by_webhook: Cluster):
    url = gated_by_webhook.get("mutatingwebhookconfiguration", "stint-gates-pods")["webhooks"][0]["clientConfig"]["url"]
    context = ssl.create_default_context(cafile=str(gated_by_webhook.state / "certificates" / "ca.crt"))
    for body in (b"", b"{}", b"[1]", b'{"request": 5}', b"\xff"):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(urllib.request.Request(url, data=body), context=context, timeout=5)
        assert error.value.code == 400
        assert b"no AdmissionReview" in error.value.read()
