"""Two hundred absurd objects on a real API server: refused, or told what is wrong; and nobody else suffers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

from hack.cluster import Operator, eventually
from hack.cluster.operators import ProcessOperator
from stint.kube.client.api import Api, ApiError, connect
from tests import absurd

pytestmark = pytest.mark.e2e

PLURAL = {"TrainingJob": "trainingjobs", "GPUPool": "gpupools", "PriceBook": "pricebooks"}


def _path(thing: dict[str, Any]) -> str:
    namespace = thing["metadata"].get("namespace")
    where = f"namespaces/{namespace}/" if namespace else ""
    return f"/apis/stint.dev/v1alpha1/{where}{PLURAL[thing['kind']]}"


async def _create(world, things: list[dict[str, Any]]) -> list[ApiError | None]:
    """For each: how the API server refuses it; None: it does not."""

    async def one(api: Api, thing: dict[str, Any]) -> ApiError | None:
        asked_before = False
        while True:
            try:
                await api.raw("POST", _path(thing), body=thing, params={"fieldValidation": "Strict"})
            except TimeoutError:  # a slow machine; the server may have taken it all the same
                asked_before = True
                continue
            except ApiError as error:
                return None if asked_before and error.reason == "AlreadyExists" else error
            return None

    async with Api(connect(world.cluster.kubeconfig)) as api:
        return list(await asyncio.gather(*(one(api, t) for t in things)))


def test_each_is_refused_or_told_and_a_good_job_runs_beside_them(world, shared_operator: Operator):
    things = absurd.objects(world.name)
    answers = asyncio.run(_create(world, things))
    accepted = [t for t, refusal in zip(things, answers, strict=True) if refusal is None]
    world.made += [(t["kind"].lower(), t["metadata"]["name"]) for t in accepted if t["kind"] != "TrainingJob"]
    for refusal in filter(None, answers):
        assert refusal.status in (400, 422), refusal
        assert "spec" in refusal.message, refusal
    assert 20 < len(accepted) < len(things) - 20
    world.node("a")
    world.apply(world.job(workers=2, gpus=2))
    world.until("Running", timeout=60)

    def untold() -> list[str]:
        missing = []
        for kind, plural in PLURAL.items():
            names = {t["metadata"]["name"] for t in accepted if t["kind"] == kind}
            listed = json.loads(world.kubectl("get", plural, "-o", "json"))["items"]
            found = {t["metadata"]["name"]: t for t in listed}
            missing += [n for n in names if not found[n].get("status", {}).get("conditions")]
        return missing

    eventually(lambda: not untold(), timeout=60, what="every one of them to have conditions")
    for job in json.loads(world.kubectl("get", "tj", "-o", "json"))["items"]:
        status = job["status"]
        if status["phase"] == "Invalid":
            assert status["message"].startswith(("spec.", "spec: ", "metadata.")), status
            assert status["message"].count(": ") >= 2, "field, value and remedy"
        elif job["metadata"]["name"] != "job":
            # Some are legal after all: one that lost its nodeSelector may even run.
            assert status["phase"] in ("Queued", "Suspended", "Starting", "Running"), status
            assert status["message"], status
    assert "stint_unforeseen_errors_total 0.0" in shared_operator.metrics()


def test_a_raw_template_with_affinity_gates_and_init_containers_of_its_own_is_respected(world):
    near, far = world.node("near", labels={"rack": "r1"}), world.node("far", labels={"rack": "r2"})
    job = world.job(workers=2, gpus=2)
    template = job["spec"].pop("template")
    terms = [{"matchExpressions": [{"key": "rack", "operator": "In", "values": [rack]}]} for rack in ("r1", "r2")]
    template["spec"] |= {
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}},
        "initContainers": [{"name": "fetch", "image": "x", "resources": {"requests": {"cpu": "2"}}}],
        "hostNetwork": True,
        "schedulerName": "default-scheduler",
    }
    template["metadata"]["annotations"] = {"example.com/note": "übergröße \U0001f680"}
    world.apply({**job, "spec": {**job["spec"], "podTemplate": template}})
    (where,) = world.until("Running")["nodes"]
    assert where in (near, far)
    for pod in world.pods():
        required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert [t["matchExpressions"] for t in required["nodeSelectorTerms"]] == [t["matchExpressions"] for t in terms]
        assert all(t["matchFields"][0]["values"] == [where] for t in required["nodeSelectorTerms"])


def test_the_longest_name_works_and_a_longer_one_is_told_the_limit(world):
    world.node("a")
    world.apply(world.job("n" * 58, workers=2, gpus=1))
    world.until("Running", "n" * 58)
    with pytest.raises(RuntimeError, match="may have at most 58 characters"):
        world.apply(world.job("n" * 59, workers=2, gpus=1))


def test_ten_thousand_events_in_its_namespace_do_not_hold_up_a_job(world):
    async def flood() -> None:
        path = f"/apis/events.k8s.io/v1/namespaces/{world.name}/events"
        about = {"apiVersion": "v1", "kind": "Pod", "name": "nobody", "namespace": world.name}
        event = {
            "eventTime": "2026-11-24T00:00:00.000000Z",
            "reportingController": "example.com/flood",
            "reportingInstance": "flood",
            "action": "Flood",
            "reason": "Flood",
            "type": "Normal",
            "regarding": about,
            "note": "one of ten thousand",
        }
        async with Api(connect(world.cluster.kubeconfig), concurrency=64) as api:
            await asyncio.gather(
                *(api.raw("POST", path, body={"metadata": {"name": f"flood-{i}"}, **event}) for i in range(10_000))
            )

    asyncio.run(flood())
    world.node("a")
    world.apply(world.job())
    world.until("Running")
    assert "USD/h" in world.event("Placed")


@dataclass
class Log:
    """What the operator has said since then."""

    operator: Operator
    began: int

    def complaints(self) -> list[str]:
        """Lines that show that it met something that nobody foresaw."""
        said = _log_of(self.operator)[self.began :].decode(errors="replace")
        return [line for line in said.splitlines() if "Traceback" in line or "unforeseen" in line]


def _log_of(operator: Operator) -> bytes:
    assert isinstance(operator, ProcessOperator)
    return operator.process.log.read_bytes()


@pytest.fixture
def log(shared_operator: Operator) -> Log:
    return Log(shared_operator, len(_log_of(shared_operator)))


def _fates(world, cases: dict[str, absurd.Case], things: list[dict[str, Any]]) -> dict[str, str]:
    """Create all; those that the schema should refuse are, in words that help, and the others are not.

    Returns the names of those that were taken, by the object's.
    """
    answers = asyncio.run(_create(world, things))
    pairs = zip(cases.items(), things, answers, strict=True)
    named = {}
    for (name, case), thing, refusal in pairs:
        if refusal is None:
            named[thing["metadata"]["name"]] = name
            if thing["kind"] != "TrainingJob":
                world.made.append((thing["kind"].lower(), thing["metadata"]["name"]))
        if case.fate == absurd.REFUSED:
            assert refusal is not None, f"{name} was taken"
            assert refusal.status in (400, 422), f"{name}: {refusal}"
            for words in case.says:
                assert words in refusal.message, f"{name}: {refusal}"
        else:
            assert refusal is None, f"{name}: {refusal}"
    return named


def test_each_absurd_job_made_by_hand_meets_its_fate_and_a_good_one_runs_beside_them(world, log):
    for name in ("a", "b", "c", "d"):
        world.node(name)
    # The good one comes last, and into the same namespace: whatever holds up a cycle holds it up, too.
    things = [absurd.hand_made(name, world.name, {"test": world.name}) for name in absurd.JOBS]
    expected = _fates(world, absurd.JOBS, things)
    world.apply(world.job("good"))
    world.until("Running", "good", timeout=60)
    phases = {
        absurd.INVALID: ("Invalid",),
        absurd.TOO_LARGE: ("Invalid",),
        absurd.REFUSED_LATER: ("Queued",),
        absurd.WAITS: ("Queued",),
        absurd.RUNS: ("Running",),
    }

    def wrong() -> dict[str, str]:
        listed = {t["metadata"]["name"]: t["status"] for t in _listed(world, "tj") if "status" in t}
        found = {}
        for name in expected:
            case, status = absurd.JOBS[name], listed.get(name, {})
            told = f"{status.get('reason')}: {status.get('message')}"
            if case.fate == absurd.REFUSED_LATER and "refuses its Job" not in told:
                found[name] = told
            if status.get("phase") not in phases[case.fate] or not all(words in told for words in case.says):
                found[name] = f"{status.get('phase')} {told}, and not {case.fate}: {case.says}"
        return found

    eventually(lambda: not wrong(), timeout=60, what=f"each to meet its fate: {wrong()}")
    by_name = {t["metadata"]["name"]: t["status"] for t in _listed(world, "tj")}
    for name in expected:
        admitted = next(c for c in by_name[name]["conditions"] if c["type"] == "Admitted")
        assert admitted["status"] == str(absurd.JOBS[name].fate == absurd.RUNS)
    raw = world.pods("raw-restarts")
    assert [p["spec"]["restartPolicy"] for p in raw] == ["Never"]
    (labelled,) = world.pods("raw-our-label")
    assert labelled["metadata"]["labels"]["a"] == "b" * 63
    (own,) = world.pods("own-variable")
    assert {e["name"]: e.get("value") for e in own["spec"]["containers"][0]["env"]}["WORLD_SIZE"] == "many"
    assert log.complaints() == []


def _listed(world, what: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads(world.kubectl("get", what, "-o", "json"))["items"]
    return listed


def _conditions(world, what: str, name: str) -> str:
    found = json.loads(world.kubectl("get", what, name, "-o", "json")).get("status", {}).get("conditions", [])
    return "; ".join(f"{c['type']}={c['status']} {c['message']}" for c in found)


def test_each_absurd_pool_and_book_meets_its_fate_and_a_good_job_runs_beside_them(world, log):
    world.node("a")
    pools = _fates(world, absurd.POOLS, [absurd.hand_made_pool(name, world.name) for name in absurd.POOLS])
    books = _fates(world, absurd.BOOKS, [absurd.hand_made_book(name, world.name) for name in absurd.BOOKS])
    world.apply(world.job())
    world.until("Running", timeout=60)
    for what, found, cases in (("gpupool", pools, absurd.POOLS), ("pricebook", books, absurd.BOOKS)):
        for full, name in found.items():
            case = cases[name]
            said = eventually(lambda what=what, full=full: _conditions(world, what, full), what=f"conditions of {full}")
            assert ("Valid=False" in said) == (case.fate == absurd.INVALID), f"{name}: {said}"
            for words in case.says:
                assert words in said, f"{name}: {said}"
    assert log.complaints() == []


def test_absurd_nodes_are_refused_or_counted_and_a_good_job_runs_on_a_good_one(world, log):
    good = world.node("good", labels={"good": "yes"})
    pool = f"{world.name}-odd"
    for name, machine in absurd.NODES.items():
        amounts = {"cpu": "96", "memory": "1000Gi", "pods": "110", "nvidia.com/gpu": "8", **machine.allocatable}
        # Those that offer more GPUs than the machine has are one pool, whose status says so.
        labels = {"odd": pool} if machine.gpus > 8 else {}
        thing = _node(world, name, amounts, {**labels, **machine.labels})
        if machine.says:
            with pytest.raises(RuntimeError, match=machine.says):
                world.apply(thing)
        else:
            world.apply(thing)
    world.pool("odd", most=9, mode="Advise", nodeSelector={"odd": pool})
    job = world.job(workers=1, gpus=1)
    job["spec"]["template"]["spec"]["nodeSelector"]["good"] = "yes"
    world.apply(job)
    assert list(world.until("Running", timeout=60)["nodes"]) == [good]

    def told() -> str:
        status = json.loads(world.kubectl("get", "gpupool", pool, "-o", "json")).get("status", {})
        return next((c["reason"] for c in status.get("conditions", []) if c["type"] == "Valid"), "")

    eventually(lambda: told() == "SharedGpus", what="its status to say that no machine has so many GPUs")
    assert log.complaints() == []


def _node(world, name: str, amounts: dict[str, str], labels: dict[str, str]) -> dict[str, Any]:
    """One that no job asks for, with labels that say what it is."""
    full = f"{world.name}-odd-{name}"
    described = {
        "kubernetes.io/hostname": full,
        "node.kubernetes.io/instance-type": "p4de.24xlarge",
        "topology.kubernetes.io/zone": "us-east-1a",
        "topology.kubernetes.io/region": "us-east-1",
        "karpenter.sh/capacity-type": "on-demand",
        "stint.dev/provider": "aws",
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
        "nvidia.com/gpu.memory": "81920",
        "test": world.name,
        **labels,
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": full, "labels": described, "annotations": {"kwok.x-k8s.io/node": "fake"}},
        "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
        "status": {"capacity": amounts, "allocatable": amounts},
    }


def test_pods_of_others_that_ask_for_absurdly_much_are_refused_or_take_their_own_node_only(world, log):
    free = world.node("free")
    for i, (gpus, counted) in enumerate(absurd.PODS.items()):
        full = world.node(f"full-{i}")
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": f"greedy-{i}", "namespace": world.name},
            "spec": {
                "nodeName": full,
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "a", "image": "x", "resources": {"limits": {"nvidia.com/gpu": gpus}}}],
            },
        }
        if counted is None:
            with pytest.raises(RuntimeError, match=r"resources.requests\[nvidia.com/gpu\]"):
                world.apply(pod)
            world.kubectl("cordon", full)
        else:
            world.apply(pod)
    world.apply(world.job(workers=2, gpus=4))
    assert list(world.until("Running", timeout=60)["nodes"]) == [free]
    world.apply(world.job("second", workers=1, gpus=4))
    world.until("Queued", "second", reason="NotEnoughGpus")
    assert log.complaints() == []


def test_a_gate_of_somebody_else_holds_the_gang_until_it_is_gone_and_ours_is_gone_before(world):
    world.node("a")
    job = world.job(workers=2, gpus=2)
    template = job["spec"].pop("template")
    template["spec"]["schedulingGates"] = [{"name": "example.com/quota"}]
    job["spec"]["podTemplate"] = template
    world.apply(job)

    def gates() -> list[list[str]]:
        return [[g["name"] for g in p["spec"].get("schedulingGates", [])] for p in world.pods()]

    theirs = [["example.com/quota"]] * 2
    eventually(lambda: gates() == theirs, timeout=30, what=f"our gate alone to go; there are {gates()}")
    assert all("nodeName" not in p["spec"] for p in world.pods())
    # One place for the gang that waits, and none for others: it is placed, only not started.
    status = world.until("Starting")
    assert list(status["nodes"]) == [f"{world.name}-a"]
    for pod in world.pods():
        patch = [{"op": "remove", "path": "/spec/schedulingGates"}]
        world.kubectl("patch", "pod", pod["metadata"]["name"], "--type=json", "-p", json.dumps(patch))
    world.until("Running")


def test_a_gate_that_stays_gives_the_place_back_and_blames_no_node(world):
    world.node("a")
    job = world.job(workers=2, gpus=2, placementTimeoutSeconds=5)
    template = job["spec"].pop("template")
    template["spec"]["schedulingGates"] = [{"name": "example.com/quota"}]
    world.apply({**job, "spec": {**job["spec"], "podTemplate": template}})
    status = world.until("Queued", reason="DidNotStart")
    assert "another scheduling gate holds them" in status["message"]
    assert not status.get("avoid")
    eventually(lambda: not world.pods(), what="it to be taken back")


def test_a_scheduler_that_nobody_runs_leaves_the_gang_taken_back_whole_and_told_so(world):
    """Its own schedulerName is respected: it may be another profile of kube-scheduler, which honours our pin."""
    world.node("a")
    job = world.job(workers=1, gpus=1, placementTimeoutSeconds=5)
    template = job["spec"].pop("template")
    template["spec"]["schedulerName"] = "nobody"
    world.apply({**job, "spec": {**job["spec"], "podTemplate": template}}, world.job("good", gpus=2))
    world.until("Running", "good")
    (pod,) = eventually(world.pods, what="its pod")
    assert pod["spec"]["schedulerName"] == "nobody"
    status = world.until("Queued", reason="DidNotStart")
    assert "0 of 1 workers ran" in status["message"]
    assert "no scheduler has the name in their schedulerName" in status["message"]
    assert not status.get("avoid"), "its node is not to blame"
    eventually(lambda: not world.pods(), what="it to be taken back")
    assert world.status("good")["phase"] == "Running"


def test_a_phase_that_is_none_is_refused_whoever_writes_it(world):
    world.apply(world.job(suspend=True))
    world.until("Suspended")
    patch = '{"status": {"phase": "Banana"}}'
    with pytest.raises(RuntimeError, match=r'status.phase: Unsupported value: "Banana"'):
        world.kubectl("patch", "tj", "job", "--subresource=status", "--type=merge", "-p", patch)


def test_an_object_as_deep_as_the_api_server_takes_them_hides_nobody(world, tmp_path, shared_operator: Operator):
    """Python by itself stops reading at a thousand levels, the API server at ten thousand."""
    deep = {"spec": {"containers": [{"name": "train", "image": "x"}], "affinity": "THERE"}}
    job = world.job("deep", podTemplate=deep)
    del job["spec"]["template"]
    text, levels = json.dumps(job), 9_000
    (tmp_path / "deep.json").write_text(text.replace('"THERE"', '{"a":' * levels + "1" + "}" * levels))
    world.kubectl("create", "-f", str(tmp_path / "deep.json"))
    try:
        world.node("a")
        world.apply(world.job(workers=2, gpus=2))
        world.until("Running")
        told = ("get", "tj", "deep", "-o", "jsonpath={.status.phase} {.status.message}")
        eventually(lambda: "Invalid spec.podTemplate: more than 100 levels" in world.kubectl(*told))
    finally:
        world.kubectl("delete", "tj", "deep")
    assert "stint_unforeseen_errors_total 0.0" in shared_operator.metrics()


def test_a_node_of_unknown_make_that_no_pool_selects_is_told_what_is_missing(world):
    labels = {"nvidia.com/gpu.product": "Abacus", "node.kubernetes.io/instance-type": "abacus.8"}
    node = world.node("odd", labels=labels)
    told = ("events", "-n", "default", "--field-selector", f"involvedObject.name={node},reason=NoPrice")
    found = eventually(lambda: world.cluster.get(*told)["items"], what="an event about the node")
    assert [e["type"] for e in found] == ["Warning"]
    assert "gpuModel: Abacus" in found[0]["message"], "it is used under its own name, once it has a price"
