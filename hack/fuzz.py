"""Objects that a tenant may write, with anything in any field, taken through all that reads them: nothing may escape.

Each object goes the way that the API server's answers go: informer or store, then steering, observing, booking and
deciding, together with a job of somebody else's, which has to be decided about as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import msgspec
from hypothesis import strategies as st

from stint.api.trainingjob import TrainingJob
from stint.controllers.bookkeeper import Bookkeeper
from stint.controllers.calibrator import family
from stint.controllers.room import Room
from stint.controllers.steering import Steering
from stint.controllers.store import Store
from stint.decide import decide
from stint.feeds import bundled
from stint.kube.act.apply import Actuator
from stint.kube.client.api import Api
from stint.kube.client.events import About, Recorder
from stint.kube.client.informer import Informer
from stint.kube.observe.opted_in import only_opted_in
from stint.kube.observe.snapshot import Caches, observe
from stint.kube.records import PodRecord
from stint.kube.reduce import reduce_job, reduce_node, reduce_pod
from stint.kube.surroundings import SURROUNDINGS
from stint.kube.wire import WireJob, WireNode, WirePod
from stint.kube.workloads import WireWorkload, WorkloadRecord, reducer
from stint.lifecycle.phases import outcomes
from stint.model.job import job_id
from stint.model.plan import Placement
from stint.model.situation import Settings
from stint.placement.greedy import Greedy
from stint.workloads.registry import KINDS

Body = dict[str, Any]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
VICTIM = job_id("others", "next")
_KEY = b"k" * 32
_CATALOGUE = bundled.load()

# -- what people write


CORPUS = [
    "",
    "true",
    "false",
    "now",
    "1",
    "-1",
    "007",
    "9" * 9,
    "9" * 30,
    "٣",  # a digit, though no ASCII one
    "1e400",
    "nan",
    "-inf",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59Z",
    "2026-11-23T12:00:00Z",
    "mine",
    "train",
    "n1",
    "n2",
    "../../x",
    "a/b",
    "\x00",
    "\ud7ff",
    "work: {units: 3600, unitsPerSecond: {A100-80GB: 1.0}}",
    "work: {unitsPerSecond: {4090: 2}}",
    "&a [*a]",
    '!!bool "x"',
    "work: {units: .inf, unitsPerSecond: {A100-80GB: .nan}}",
    "[" * 2_000,
    "x" * 20_000,
    '{"nodes": ["n1"], "offering": "a/b/c/d", "gpuModel": "", "since": "9999-12-31T23:59:59Z", "usdPerHour": 1}',
    '{"nodes": ["n1"], "offering": "a", "gpuModel": "", "since": "2026-01-01T00:00:00Z", "usdPerHour": 1,'
    ' "perWorker": {"gpus": -8}}',
]
_KEYS = [
    "stint.dev/managed",
    "stint.dev/group",
    "stint.dev/group-size",
    "stint.dev/spec",
    "stint.dev/release",
    "stint.dev/rank",
    "stint.dev/plan",
    "stint.dev/plan-signature",
    "stint.dev/made-from",
    "stint.dev/resume",
    "stint.dev/units-done",
    "stint.dev/family",
    "stint.dev/team",
    "stint.dev/trainingjob",
    "batch.kubernetes.io/job-name",
    "batch.kubernetes.io/job-completion-index",
    "jobset.sigs.k8s.io/jobset-name",
    "training.kubeflow.org/job-name",
    "leaderworkerset.sigs.k8s.io/name",
    "leaderworkerset.sigs.k8s.io/size",
    "leaderworkerset.sigs.k8s.io/group-index",
    "statefulset.kubernetes.io/pod-name",
    "volcano.sh/job-name",
    "ray.io/cluster",
    "kueue.x-k8s.io/queue-name",
]
texts = st.sampled_from(CORPUS) | st.text(max_size=20)
tags = st.dictionaries(st.sampled_from(_KEYS), texts, max_size=6)
managed = tags.map(lambda found: {"stint.dev/managed": "true", **found})
numbers = st.sampled_from([0, 1, -1, 2**31 - 1, 2**31, 2**63 - 1, -(2**63)]) | st.integers(-10, 10)
figures = numbers | st.floats() | st.sampled_from([1e300, -1e300, 5e-324])
quantities = st.sampled_from(["0", "1", "8", "500m", "64Gi", "1e3", "9" * 30, "-8", "1E9999", "x"])
_fields = texts | st.sampled_from(
    ["spec", "name", "template", "replicas", "containers", "resources", "limits", "nvidia.com/gpu", "type", "status"]
)
anything = st.recursive(
    st.none() | st.booleans() | figures | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(texts | st.sampled_from(["spec", "name"]), inner, max_size=3)
    ),
    max_leaves=8,
)
resources = st.dictionaries(
    st.sampled_from(["nvidia.com/gpu", "cpu", "memory", "rdma/hca", "pods", "x"]), quantities, max_size=3
)
names = st.sampled_from(["mine", "train", "next", "x-0", "x"]) | st.integers(0, 99).map(lambda n: f"x-{n}")
uids = st.sampled_from(["u-mine", "u-train", "u-next", "u-x"])
dates = st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-23T11:00:00Z"])


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Body]:
    """Any of these fields, or none."""
    return st.fixed_dictionaries({}, optional=fields)


def _few(base: Body, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Body]:
    """What is right, but for up to three of these fields."""
    chosen = st.lists(st.sampled_from(sorted(fields)), max_size=3, unique=True)
    changes = chosen.flatmap(lambda keys: st.fixed_dictionaries({k: fields[k] for k in keys}))
    return changes.map(lambda found: {**base, **found})


owners = st.lists(
    st.fixed_dictionaries(
        {"kind": st.sampled_from([*KINDS, "TrainingJob", "ReplicaSet"]), "name": names, "uid": uids},
        optional={"controller": st.just(True), "apiVersion": texts},
    ),
    max_size=1,
)


def meta(**optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Body]:
    """In the tenant's namespace."""
    always = {"name": names, "namespace": st.just("tenant"), "labels": managed | tags, "annotations": tags}
    more = {"ownerReferences": owners, "creationTimestamp": dates, "deletionTimestamp": dates, **optional}
    return st.fixed_dictionaries(always, optional=more)


pod_specs = _few(
    {
        "containers": [{"resources": {"requests": {"nvidia.com/gpu": "8"}}}],
        "schedulingGates": [{"name": "stint.dev/placement"}],
    },
    containers=st.lists(st.fixed_dictionaries({"resources": _some(requests=resources)}), min_size=1, max_size=2),
    schedulingGates=st.just([]),
    nodeName=st.sampled_from(["n2", "gone"]),
    affinity=anything,
    tolerations=anything,
    nodeSelector=anything,
    topologySpreadConstraints=anything,
    volumes=anything,
    overhead=resources,
)
conditions = st.lists(
    _some(
        type=st.sampled_from(["Ready", "PodScheduled", "Complete", "Failed"]), status=texts, lastTransitionTime=dates
    ),
    max_size=2,
)
_phases = st.sampled_from(["Pending", "Running", "Failed", "Succeeded", "?"])
pods = st.fixed_dictionaries(
    {
        "metadata": meta(deletionGracePeriodSeconds=numbers),
        "spec": pod_specs,
        "status": _some(
            phase=st.sampled_from(["Pending", "Running", "Failed", "Succeeded", "?"]), conditions=conditions
        ),
    }
)
jobs = st.fixed_dictionaries(
    {"metadata": meta(), "spec": _some(suspend=st.booleans(), completions=numbers)},
    optional={"status": _some(active=numbers, succeeded=numbers, conditions=conditions)},
)
_GPU_POD = {"containers": [{"resources": {"limits": {"nvidia.com/gpu": "8"}}}]}
workloads = st.tuples(
    st.sampled_from(sorted(KINDS)),
    st.fixed_dictionaries(
        {
            "metadata": meta(),
            "spec": _few(
                {"parallelism": 2, "completions": 2, "template": {"spec": _GPU_POD}},
                replicatedJobs=anything,
                template=anything,
                suspend=anything,
                parallelism=figures,
                completions=figures,
                replicas=anything,
                tasks=anything,
                pytorchReplicaSpecs=anything,
                leaderWorkerTemplate=anything,
                workerGroupSpecs=anything,
                headGroupSpec=anything,
            ),
            "status": _some(conditions=anything, trainerStatus=anything, replicatedJobsStatus=anything),
        }
    ),
)
_models = st.sampled_from(["A100-80GB", "A100-80GB", "x", ""])
_specs = _few(
    {
        "workers": 1,
        "gpu": {"perWorker": 8},
        "work": {"units": 3600, "unitsPerSecond": {"A100-80GB": 1.0}},
        "template": {"spec": {"nodeSelector": {"only": "n2"}, "containers": [{"name": "a", "image": "x"}]}},
        "checkpoint": {"everyMinutes": 10},
    },
    work=_some(units=figures, unitsPerSecond=st.dictionaries(_models, figures, max_size=2)),
    gpu=_some(perWorker=numbers, models=st.lists(texts, max_size=2), fraction=figures, resource=texts),
    workers=numbers,
    priority=numbers,
    suspend=st.booleans(),
    deadline=dates,
    within=texts,
    queue=texts,
    budget=_some(usd=figures),
    checkpoint=_some(everyMinutes=figures, takesSeconds=figures, restartSeconds=figures),
    elastic=_some(min=numbers, max=numbers),
    objective=_some(performance=figures, cost=figures, usdPerHour=figures, latenessUsdPerHour=figures),
    data=_some(gib=figures, at=texts),
    topology=_some(within=texts, required=st.booleans()),
    licences=st.lists(texts, max_size=2),
    podTemplate=anything,
    template=anything,
    steers=_some(kind=texts, name=texts),
    nodeGraceSeconds=figures,
    placementTimeoutSeconds=figures,
    idlePolicy=_some(afterMinutes=figures, action=texts),
    progress=anything,
)
_statuses = _few(
    {},
    phase=st.sampled_from(["", "Queued", "Running", "Succeeded", "Failed", "x"]),
    progress=_some(unitsDone=figures, estimate=figures, runningSince=dates),
    takenBack=dates,
    notBefore=dates,
    moved=dates,
    movedFor=texts,
    retries=numbers,
    rollbacks=numbers,
    spentThrough=dates,
    spentExactly=figures,
    offering=texts,
    gpuModel=texts,
    blamed=anything,
    admitted=anything,
    calibration=anything,
    ledger=anything,
)
trainingjobs = st.fixed_dictionaries(
    {"metadata": meta(finalizers=st.lists(texts, max_size=2)), "spec": _specs}, optional={"status": _statuses}
)
surroundings = st.tuples(
    st.sampled_from(sorted(SURROUNDINGS)),
    st.fixed_dictionaries({"metadata": meta()}, optional={"spec": anything, "status": anything, "overhead": anything}),
)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a tenant has written at one time."""

    pods: Sequence[Body] = ()
    jobs: Sequence[Body] = ()
    workloads: Sequence[tuple[str, Body]] = ()
    trainingjobs: Sequence[Body] = ()
    surroundings: Sequence[tuple[str, Body]] = ()
    labelled: bool = True  # his namespace, by an administrator

    def __len__(self) -> int:
        """Objects; one that has the name of an earlier one of its kind takes its place."""
        plain = {
            (i, b["metadata"]["name"]) for i, some in enumerate((self.pods, self.jobs, self.trainingjobs)) for b in some
        }
        kinds = {(k, b["metadata"]["name"]) for k, b in (*self.workloads, *self.surroundings)}
        return len(plain) + len(kinds)


def tries(most: int) -> st.SearchStrategy[Tried]:
    """Up to so many of each kind."""
    return st.builds(
        Tried,
        pods=st.lists(pods, max_size=most),
        jobs=st.lists(jobs, max_size=most),
        workloads=st.lists(workloads, max_size=most),
        trainingjobs=st.lists(trainingjobs, max_size=most),
        surroundings=st.lists(surroundings, max_size=most),
        labelled=st.booleans(),
    )


# -- what becomes of it


class _Silent(Api):
    """Takes every write."""

    def __init__(self) -> None:  # opens no session
        pass

    async def create(self, path: str, body: Any) -> Any:
        msgspec.json.encode(body)
        return {"path": path}

    async def patch(self, path: str, body: Any, **_: Any) -> Any:
        msgspec.json.encode(body)
        return {"path": path}

    async def delete(self, path: str, **_: Any) -> bool:
        return bool(path)


@dataclass
class _Notes(Recorder):
    told: list[str] = field(default_factory=list)

    async def tell(self, about: About, reason: str, note: str, **_: Any) -> None:
        self.told.append(f"{about.kind} {about.name} {reason} {note}")


class _NoHands(Actuator):
    def __init__(self) -> None:
        pass

    async def let_go_anywhere(self, pod: PodRecord) -> None:
        assert pod.gang or pod.unplaced

    async def resume(self, owner: WorkloadRecord) -> None:
        assert owner.uid


_T = TypeVar("_T")


def _kept(wire: type[Any], reduce: Callable[[Any], tuple[str, str, _T]], bodies: Sequence[Body]) -> tuple[_T, ...]:
    """Of a kind, as its informer keeps them; each has a uid of its own, as the API server gives it."""
    cache: Informer[Any, _T] = Informer(_Silent(), "/x", wire, reduce)
    by_name = {b["metadata"]["name"]: b for b in bodies}
    for i, body in enumerate(by_name.values()):
        body = {**body, "metadata": {**body["metadata"], "uid": body["metadata"].get("uid", f"{wire.__name__}-{i}")}}
        item = cache._shaped(msgspec.Raw(msgspec.json.encode(body)))
        if item is not None:
            cache._store(item)
    return tuple(cache)


def _node(name: str) -> Body:
    amounts = {"cpu": "96", "memory": "1000Gi", "pods": "110", "nvidia.com/gpu": "8"}
    labels = {
        "node.kubernetes.io/instance-type": "p4de.24xlarge",
        "topology.kubernetes.io/zone": "us-east-1a",
        "topology.kubernetes.io/region": "us-east-1",
        "karpenter.sh/capacity-type": "on-demand",
        "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
        "nvidia.com/gpu.memory": "81920",
        "only": name,
    }
    ready = [{"type": "Ready", "status": "True"}]
    spec = {"providerID": "aws:///us-east-1a/i-1"}
    return {
        "metadata": {"name": name, "uid": name, "labels": labels, "creationTimestamp": "2026-11-01T00:00:00Z"},
        "spec": spec,
        "status": {"allocatable": amounts, "conditions": ready},
    }


def _victim() -> Body:
    return {
        "metadata": {"name": "next", "namespace": "others", "uid": "victim", "generation": 1},
        "spec": {
            "workers": 1,
            "gpu": {"perWorker": 8},
            "work": {"units": 3600, "unitsPerSecond": {"A100-80GB": 1.0}},
            "template": {"spec": {"nodeSelector": {"only": "n1"}, "containers": [{"name": "a", "image": "x"}]}},
        },
    }


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of it."""

    victim: object  # what was decided about the others' job
    rivals: int  # jobs of the tenant that compete with it by right
    told: Sequence[str]  # events


def judge(tried: Tried) -> Judged:
    """All of one cycle. Raises whatever would have broken it."""
    store: Store[TrainingJob] = Store(TrainingJob, Room())
    for i, body in enumerate({b["metadata"]["name"]: b for b in tried.trainingjobs}.values()):
        head = {**body["metadata"], "uid": f"u-{body['metadata']['name']}", "resourceVersion": str(i + 1)}
        store.put({**body, "metadata": head})
    store.put(_victim())
    resources = tuple(store.items.values())
    all_pods = _kept(WirePod, reduce_pod, tried.pods)
    some_pods = only_opted_in(all_pods, {"tenant"} if tried.labelled else set())
    made = tuple(
        record
        for kind in KINDS.values()
        for record in _kept(WireWorkload, reducer(kind), [b for k, b in tried.workloads if k == kind.kind])
    )
    around: dict[str, Any] = {
        name: _kept(kind.wire, kind.reduce, [b for k, b in tried.surroundings if k == name])
        for name, kind in SURROUNDINGS.items()
    }
    notes = _Notes()
    asyncio.run(_steered(notes, some_pods, made, resources))
    caches = Caches(
        trainingjobs=resources,
        gpu_pools=[],
        price_books=[],
        nodes=_kept(WireNode, reduce_node, [_node("n1"), _node("n2")]),
        pods=some_pods,
        jobs=_kept(WireJob, reduce_job, tried.jobs),
        workloads=made,
        plan_key=_KEY,
        **around,
    )
    created = {t.metadata.uid: NOW - timedelta(minutes=5) for t in resources}
    seen = observe(caches, _CATALOGUE, Settings(), now=NOW, created=created, empty_since={})
    Bookkeeper(of=lambda at: at, catalogue=_CATALOGUE).book(seen, caches, {}, known_until=NOW)
    for resource in resources:
        family(resource)
    msgspec.msgpack.encode(seen.situation)
    plan = decide(seen.situation, solver=Greedy())
    rivals = [j for j in seen.situation.jobs if j.id != VICTIM]
    return Judged(outcomes(plan).get(VICTIM), len(rivals), notes.told)


async def _steered(
    notes: _Notes, some: Sequence[PodRecord], made: Sequence[WorkloadRecord], there: Sequence[TrainingJob]
) -> None:
    steering = Steering(
        api=_Silent(),
        actuator=_NoHands(),
        events=notes,
        pods=lambda: some,
        workloads=lambda: made,
        trainingjobs=lambda: there,
        absorb=lambda _: None,
    )
    await steering.tend()


def hurt(tried: Tried) -> str:
    """How the others were hurt; empty: they were not."""
    try:
        found = judge(tried)
    except Exception as error:
        return repr(error)[:300]
    if found.victim is None:
        return "nothing was decided about the others' job"
    if isinstance(found.victim, Placement):
        return "" if set(found.victim.nodes) == {"n1"} else f"it was sent to {found.victim.nodes}"
    guarded = any("affinity" in p["spec"] for p in tried.pods)  # which kube-scheduler would heed, too
    return "" if found.rivals or guarded else f"it was not placed: {found.victim}"
