from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from stint.kube.observe.groups import Workloads, gather, look_group
from stint.kube.steered import GATE, selector, steered_name
from stint.model.gang import GangState
from stint.model.job import Toleration
from stint.model.resources import Resources
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_plan
from tests.unit.kube.theirs import group, let_go, pod, workload

NONE: frozenset[str] = frozenset()
JOB = (workload(),)
LATER = NOW + timedelta(minutes=1)


def look(found, plan=None, *, taken_back=None, lost=NONE):
    return look_group(found, plan, taken_back=taken_back, lost_nodes=lost)


@pytest.mark.parametrize(
    ("labels", "owner", "belongs"),
    [
        ({"batch.kubernetes.io/job-name": "a"}, ("Job", "a"), ("Job", "a", "job-a")),
        (
            {"batch.kubernetes.io/job-name": "a-node-0", "jobset.sigs.k8s.io/jobset-name": "a"},
            ("Job", "a-node-0"),
            ("JobSet", "a", "jobset-a"),
        ),
        ({"training.kubeflow.org/job-name": "a"}, ("PyTorchJob", "a"), ("PyTorchJob", "a", "pytorchjob-a")),
        ({"training.kubeflow.org/job-name": "a"}, ("MPIJob", "a"), ("MPIJob", "a", "mpijob-a")),
        ({"training.kubeflow.org/job-name": "a"}, ("Job", "a-launcher"), ("MPIJob", "a", "mpijob-a")),
        (
            {"training.kubeflow.org/job-name": "a", "batch.kubernetes.io/job-name": "a-launcher"},
            ("Job", "a-launcher", "batch/v1"),
            ("MPIJob", "a", "mpijob-a"),
        ),
        ({"training.kubeflow.org/job-name": "a"}, ("JAXJob", "a", "kubeflow.org/v1"), ("JAXJob", "a", "jaxjob-a")),
        ({"training.kubeflow.org/job-name": "a"}, ("MXJob", "a"), ("MXJob", "a", "mxjob-a")),
        ({"ray.io/cluster": "a"}, ("RayCluster", "a"), ("RayCluster", "a", "raycluster-a")),
        (
            {"leaderworkerset.sigs.k8s.io/name": "a-b", "leaderworkerset.sigs.k8s.io/group-index": "3"},
            ("StatefulSet", "a-b-3", "apps/v1"),
            ("LeaderWorkerSet", "a-b-3", "leaderworkerset-a-b-3"),
        ),
        ({"leaderworkerset.sigs.k8s.io/name": "a"}, None, ("LeaderWorkerSet", "a-0", "leaderworkerset-a-0")),
        ({"volcano.sh/job-name": "a"}, ("Job", "a", "batch.volcano.sh/v1alpha1"), ("VolcanoJob", "a", "volcanojob-a")),
        ({"app": "x"}, ("StatefulSet", "a", "apps/v1"), ("StatefulSet", "a", "statefulset-a")),
        ({"stint.dev/group": "a", "app": "x"}, ("ReplicaSet", "b", "apps/v1"), ("Group", "a", "group-a")),
        ({"stint.dev/group": "a", "ray.io/cluster": "b"}, None, ("Group", "a", "group-a")),
    ],
)
def test_what_a_pod_belongs_to_is_told_by_the_labels_of_its_controller(labels, owner, belongs):
    record = pod(labels=labels, owner=owner)
    assert record.gang is not None
    assert record.gang.steered is not None
    assert (record.gang.steered.kind, record.gang.steered.group, record.gang.job) == belongs


@pytest.mark.parametrize(
    "other",
    [
        pod(labels={"app": "x"}),
        pod(labels={"batch.kubernetes.io/job-name": "a", "stint.dev/managed": "yes"}),
        pod(gpus=0),
        pod(gates=()),
        pod(gates=("example.com/other",)),
    ],
    ids=["belongs to nothing", "not labelled true", "asks for no GPU", "let go by nobody", "without our gate"],
)
def test_other_pods_are_nobodys_members(other):
    assert other.gang is None


@pytest.mark.parametrize(
    ("kind", "name", "is_called"),
    [
        ("PyTorchJob", "mnist", "pytorchjob-mnist"),
        ("Job", "a.b", "job-a-b-"),
        ("JobSet", "x" * 60, "jobset-xxxx"),
        ("RayCluster", "a_b", "raycluster-a-b-"),
    ],
)
def test_names_of_trainingjobs_that_stand_for_something(kind, name, is_called):
    made = steered_name(kind, name)
    assert made.startswith(is_called)
    assert len(made) <= 58


@pytest.mark.parametrize(
    ("kind", "name", "found"),
    [
        ("Job", "a", "batch.kubernetes.io/job-name=a"),
        ("RayCluster", "a", "ray.io/cluster=a"),
        ("MPIJob", "a", "training.kubeflow.org/job-name=a"),
        ("MXJob", "a", "training.kubeflow.org/job-name=a"),
        ("Group", "a", "stint.dev/group=a"),
        ("VolcanoJob", "a", "volcano.sh/job-name=a"),
        (
            "LeaderWorkerSet",
            "a-1",
            "leaderworkerset.sigs.k8s.io/name=a,leaderworkerset.sigs.k8s.io/group-index=1",
        ),
        ("StatefulSet", "a", "statefulset.kubernetes.io/pod-name in (a-0,a-1)"),
    ],
)
def test_how_kubectl_finds_the_pods(kind, name, found):
    assert selector(kind, name, 2) == found


def test_names_that_would_be_alike_are_not():
    assert len({steered_name("Job", n) for n in ("a.b", "a-b", "a_b", "x" * 60, "x" * 61)}) == 5


def test_an_incomplete_group_says_what_is_missing():
    gang = look(group(pod("a"), workloads=JOB))
    assert gang.state is GangState.ABSENT
    assert gang.theirs is not None
    assert gang.theirs.lacking == "1 of the 2 GPU pods of Job train are there; they are let go together"


def test_a_group_whose_workload_is_suspended_says_so():
    suspended = workload(spec={"parallelism": 2, "suspend": True, "template": workload_template()})
    gang = look(group(pod("a"), workloads=(suspended,)))
    assert gang.theirs is not None
    assert "Job train is suspended" in gang.theirs.lacking


def workload_template():
    return {"spec": {"containers": [{"resources": {"limits": {"nvidia.com/gpu": 2}}}]}}


def test_a_group_of_unknown_size_says_what_to_do():
    gang = look(group(pod("a")))
    assert gang.theirs is not None
    assert "stint.dev/group-size" in gang.theirs.lacking


def test_a_group_with_too_many_pods_is_not_let_go():
    gang = look(group(pod("a"), pod("b"), pod("c"), workloads=JOB))
    assert gang.theirs is not None
    assert "3 pods of Job train wait, and there should be 2" in gang.theirs.lacking


def test_what_somebody_else_holds_waits_for_him():
    gang = look(group(pod("a"), pod("b", gates=("kueue.x-k8s.io/admission", GATE)), workloads=JOB))
    assert gang.theirs is not None
    assert "kueue.x-k8s.io/admission" in gang.theirs.lacking


def test_a_complete_group_lacks_nothing_and_its_unlike_pods_are_roles_on_their_own_terms():
    small = pod("a", nodeSelector={"disk": "ssd"}, tolerations=[{"key": "x"}, {"key": "y", "operator": "Exists"}])
    large = pod("b", gpus=4, nodeSelector={"zone": "a"}, tolerations=[{"key": "y", "operator": "Exists"}])
    gang = look(group(small, large, workloads=JOB))
    assert gang.theirs is not None
    assert gang.theirs.lacking == ""
    assert gang.theirs.per_worker == Resources(gpus=4, pods=1)
    assert gang.theirs.node_selector == (("zone", "a"),)
    assert gang.theirs.tolerations == (Toleration(key="y", operator="Exists"),)
    (role,) = gang.theirs.roles
    assert (role.name, role.replicas, role.per_pod.gpus) == ("2-gpu", 1, 2)
    assert role.node_selector == (("disk", "ssd"),)
    assert role.tolerations == (Toleration(key="x"), Toleration(key="y", operator="Exists"))


def test_pods_of_more_kinds_than_anybody_can_read_are_alike_by_their_gpus():
    many = [pod(f"p{i}", gpus=1 + i % 2, nodeSelector={"host": f"h{i}"}) for i in range(12)]
    gang = look(group(*many, workloads=JOB))
    assert gang.theirs is not None
    assert gang.theirs.per_worker is not None
    assert gang.theirs.per_worker.gpus == 2
    assert [(r.replicas, r.per_pod.gpus) for r in gang.theirs.roles] == [(6, 1)]


def test_unlike_pods_get_the_ranks_that_were_planned_for_such_and_keep_them():
    small, large = pod("a", gpus=1), pod("b", gpus=8)
    theirs = look(group(small, large, workloads=JOB)).theirs
    assert theirs is not None
    plan = msgspec.structs.replace(a_plan(("big", "rest")), per_worker=theirs.per_worker, roles=theirs.roles)
    gang = look(group(small, large, workloads=JOB), plan)
    assert [(p.gang.name, p.gang.index) for p in gang.pods if p.gang] == [("b", 0), ("a", 1)]
    again = pod("a2", gpus=1)  # what its controller puts in place of the small one, while the large one runs
    runs = pod("b", gpus=8, gates=(), annotations={"stint.dev/rank": "0"}, node="big", phase="Running")
    gang = look(group(again, runs, workloads=JOB), plan)
    assert [(p.gang.name, p.gang.index) for p in gang.pods if p.gang] == [("b", 0), ("a2", 1)]


def test_ranks_follow_the_order_of_the_controller_not_that_of_names():
    def replica(name: str, index: int):
        labels = {"training.kubeflow.org/job-name": "t", "training.kubeflow.org/replica-index": str(index)}
        kind = "master" if name == "z" else "worker"
        return pod(name, labels={**labels, "training.kubeflow.org/replica-type": kind}, owner=("PyTorchJob", "t"))

    gang = look(group(replica("b", 2), replica("c", 10), replica("z", 0)), a_plan(("n1", "n1", "n2")))
    assert [(p.gang.name, p.gang.index) for p in gang.pods if p.gang] == [("z", 0), ("b", 1), ("c", 2)]
    assert len(gang.to_release()) == 3


def test_a_placed_group_that_is_not_whole_yet_is_not_let_go():
    assert look(group(pod("a"), workloads=JOB), a_plan()).to_release() == ()


def test_a_pod_that_was_replaced_gets_the_rank_that_is_free_and_follows_the_others():
    gang = look(group(let_go("b", 1), pod("c"), workloads=JOB), a_plan())
    assert [(p.gang.name, p.gang.index) for p in gang.to_release() if p.gang] == [("c", 0)]


def test_ranks_that_somebody_else_wrote_are_not_believed():
    gang = look(group(let_go("a", 7), let_go("b", 1), let_go("c", 1), workloads=JOB), a_plan())
    assert [p.gang.name for p in gang.pods if p.gang] == ["b"]
    assert pod("d", annotations={"stint.dev/rank": "9" * 5000}).gang.index == -1


RUNNING = [let_go("a", 0), let_go("b", 1)]
RESUMING = workload(
    spec={"parallelism": 2, "suspend": True, "template": workload_template()}, annotations={"stint.dev/resume": "true"}
)


@pytest.mark.parametrize(
    ("pods", "plan", "taken_back", "chain", "state"),
    [
        ([pod("a"), pod("b")], None, None, JOB, GangState.ABSENT),
        ([pod("a"), pod("b")], a_plan(), None, JOB, GangState.PLACED),
        (RUNNING, a_plan(), None, JOB, GangState.PLACED),
        (RUNNING, a_plan(), NOW, JOB, GangState.TAKEN_BACK),
        (RUNNING, a_plan(since=LATER), NOW, JOB, GangState.PLACED),
        (RUNNING, a_plan(), NOW, (RESUMING,), GangState.LEAVING),
        (RUNNING, None, None, JOB, GangState.TAKEN_BACK),
        ([let_go("a", 0, deleting=True)], a_plan(), NOW, JOB, GangState.LEAVING),
        ([pod("a"), pod("b")], a_plan(), NOW, JOB, GangState.ABSENT),
        (
            RUNNING,
            a_plan(),
            None,
            (workload(status={"conditions": [{"type": "Complete", "status": "True"}]}),),
            GangState.SUCCEEDED,
        ),
        (
            [pod("a")],
            None,
            None,
            (workload(status={"conditions": [{"type": "Failed", "status": "True"}]}),),
            GangState.FAILED,
        ),
    ],
)
def test_states(pods, plan, taken_back, chain, state):
    assert look(group(*pods, workloads=chain), plan, taken_back=taken_back).state is state


@pytest.mark.parametrize(
    ("phases", "state"),
    [
        (("Succeeded", "Succeeded"), GangState.SUCCEEDED),
        (("Succeeded", "Running"), GangState.PLACED),
        (("Succeeded", "Failed"), GangState.FAILED),
        (("Failed", "Running"), GangState.PLACED),
    ],
)
def test_plain_pods_have_nobody_who_says_that_they_have_ended(phases, state):
    pods = [let_go(str(i), i, phase=phase, labels={"stint.dev/group": "g"}) for i, phase in enumerate(phases)]
    assert look(group(*pods), a_plan()).state is state


def test_pods_on_lost_nodes_are_told_apart():
    gang = look(group(let_go("a", 0, node="gone"), let_go("b", 1), workloads=JOB), a_plan(), lost=frozenset({"gone"}))
    assert ([p.gang.name for p in gang.lost if p.gang], [p.gang.name for p in gang.pods if p.gang]) == (["a"], ["b"])


def test_a_group_follows_its_makers_up_to_what_a_person_made():
    chain = (workload("JobSet", "t", owner="t2", spec={}), workload("TrainJob", "t2", spec={}))
    found = group(pod(labels={"jobset.sigs.k8s.io/jobset-name": "t"}), workloads=chain)
    assert [w.kind for w in found.chain] == ["JobSet", "TrainJob"]


@pytest.mark.parametrize(
    ("chain", "suspended"),
    [
        ((workload(),), "train"),
        ((workload("JobSet", "train", owner="top", spec={}), workload("TrainJob", "top", spec={})), "top"),
        ((workload("JobSet", "train", owner="unknown", spec={}),), None),
        ((workload("RayCluster", spec={}),), None),
        ((workload("RayCluster", owner="top", spec={}), workload("RayJob", "top", spec={})), None),
        ((workload(labels={"kueue.x-k8s.io/queue-name": "q"}),), None),
    ],
    ids=["a Job", "what made it", "made by somebody unknown", "Ray", "a RayJob", "Kueue's"],
)
def test_what_is_suspended_to_take_a_gang_back(chain, suspended):
    kind = {"JobSet": "jobset.sigs.k8s.io/jobset-name", "RayCluster": "ray.io/cluster"}
    label = kind.get(chain[0].kind, "batch.kubernetes.io/job-name")
    theirs = look(group(pod(labels={label: "train"}), workloads=chain)).theirs
    assert theirs is not None
    found = theirs.suspends
    assert (found.name if found else None) == suspended


LWS_POD = {"leaderworkerset.sigs.k8s.io/name": "vllm", "leaderworkerset.sigs.k8s.io/group-index": "1"}
LWS_SPEC = {"leaderWorkerTemplate": {"size": 3, "workerTemplate": workload_template()}}


def test_each_group_of_a_leaderworkerset_is_a_gang_of_its_own():
    chain = (workload("LeaderWorkerSet", "vllm", spec={**LWS_SPEC, "replicas": 4}),)
    found = group(pod(labels=LWS_POD), workloads=chain)
    assert (found.name, found.size, [w.name for w in found.chain]) == ("vllm-1", 3, ["vllm"])
    second = pod("p1", labels={**LWS_POD, "leaderworkerset.sigs.k8s.io/group-index": "2"})
    assert len(gather((pod(labels=LWS_POD), second), Workloads(chain))) == 2


def test_the_size_of_a_group_whose_maker_is_not_labelled_is_what_its_pods_are_annotated_with():
    found = group(pod(labels=LWS_POD, annotations={"leaderworkerset.sigs.k8s.io/size": "2"}))
    assert found.size == 2
    theirs = look(found).theirs
    assert theirs is not None
    assert "1 of the 2 GPU pods" in theirs.lacking
    assert "if some of its pods ask for no GPUs" in theirs.lacking
    said = {"leaderworkerset.sigs.k8s.io/size": "2", "stint.dev/group-size": "1"}
    assert group(pod(labels=LWS_POD, annotations=said)).size == 1


def test_a_group_that_can_never_be_there_as_a_whole_says_what_to_change():
    made_by = workload("StatefulSet", "web", spec={"replicas": 2, "template": workload_template()})
    found = group(pod(labels={"a": "b"}, owner=("StatefulSet", "web", "apps/v1")), workloads=(made_by,))
    theirs = look(found).theirs
    assert theirs is not None
    assert "StatefulSet web can never be there as a whole" in theirs.lacking
    assert "Parallel" in theirs.lacking


@pytest.mark.parametrize("size", ["four", "0", "-1", "9" * 5000])
def test_a_size_that_is_no_number_is_told_with_its_text(size):
    theirs = look(group(pod(annotations={"stint.dev/group-size": size}), workloads=JOB)).theirs
    assert theirs is not None
    assert "write the number of GPU pods" in theirs.lacking
    assert len(theirs.lacking) < 200


def test_a_workload_that_has_no_gpu_pods_as_written_says_so():
    idle = workload("RayCluster", "r", spec={"workerGroupSpecs": [{"replicas": 0, "template": workload_template()}]})
    theirs = look(group(pod(labels={"ray.io/cluster": "r"}), workloads=(idle,))).theirs
    assert theirs is not None
    assert "raise its replicas" in theirs.lacking


RS = ("ReplicaSet", "web-5c9", "apps/v1")
MANAGED_ONLY = {"app": "x"}


@pytest.mark.parametrize(
    ("record", "kind", "why"),
    [
        (pod(labels=MANAGED_ONLY), "", "nothing says which group it belongs to: nothing makes it"),
        (pod(labels=MANAGED_ONLY, owner=("CloneSet", "c", "apps.kruise.io/v1")), "", "CloneSet c makes it"),
        (pod(labels=MANAGED_ONLY, owner=("StatefulSet", "c", "apps.kruise.io/v1")), "", "StatefulSet c makes it"),
        (
            pod(labels={"pod-template-hash": "5c9"}, owner=RS),
            "Deployment",
            "it belongs to Deployment web. Stint does not place Deployments",
        ),
        (pod(labels=MANAGED_ONLY, owner=RS, gates=()), "Deployment", "it belongs to Deployment web-5c9"),
        (pod(labels=MANAGED_ONLY, owner=("DaemonSet", "d", "apps/v1")), "DaemonSet", "Stint does not place DaemonSets"),
        (pod(labels={"stint.dev/managed": "yes"}, gates=()), "", "label stint.dev/managed is 'yes'; write true"),
        (pod(labels={"stint.dev/managed": "false"}), "", "label stint.dev/managed is 'false'"),
        (pod(labels=MANAGED_ONLY, gpus=0), "", "asks for no GPUs"),
        (
            pod(labels=MANAGED_ONLY, annotations={"stint.dev/group-size": "x" * 9000}),
            "",
            "write the number of GPU pods of the group, such as 4. Besides, nothing says",
        ),
    ],
)
def test_what_stint_cannot_place_says_why_and_what_to_do(record, kind, why):
    stray = record.unplaced
    assert record.gang is None
    assert stray is not None
    assert stray.kind == kind
    assert why in stray.why
    assert len(stray.why) < 1024, "an event holds no more"


@pytest.mark.parametrize(
    "record",
    [
        pod(),
        pod(labels=MANAGED_ONLY, gates=()),
        pod(labels={"stint.dev/managed": "false"}, gates=()),
        pod(labels=MANAGED_ONLY, gates=(), gpus=0),
        pod(labels={"stint.dev/managed": "yes"}, gates=(), gpus=0),
    ],
    ids=["placed", "there before the gate", "opted out", "no GPUs", "no GPUs and a wrong label"],
)
def test_nothing_is_told_of_other_pods(record):
    assert record.unplaced is None


def test_owners_in_a_circle_end():
    a, b = workload(name="a", owner="b"), workload(name="b", owner="a")
    assert len(Workloads((a, b)).chain("Job", "team", "a")) == 2


def test_groups_of_the_same_name_in_two_namespaces_are_two():
    import msgspec

    here = pod("a")
    there = msgspec.structs.replace(here, gang=msgspec.structs.replace(here.gang, namespace="other"))
    assert sorted(gather((here, there), Workloads(()))) == ["other/job-train", "team/job-train"]
