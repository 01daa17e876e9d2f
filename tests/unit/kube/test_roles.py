"""Groups of unlike pods as the cluster shows them: what each role may use, and which slot each pod gets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from stint.decide import decide
from stint.kube.observe.groups import look_group
from stint.kube.plan_note import PLAN_ANNOTATION, note, read_note
from stint.kube.records import NodeRecord, PodRecord
from stint.model.constraints import PodTerm
from stint.model.job import Role, job_id
from stint.model.resources import Resources
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_plan, a_record, a_resource
from tests.unit.kube.test_observe import look
from tests.unit.kube.theirs import group, pod

TOLERATES = [{"key": "nvidia.com/gpu", "operator": "Exists"}]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
KEY = job_id("team", "group-rl")
BIG, SMALL = Resources(gpus=4, pods=1), Resources(gpus=1, pods=1)
THREE_SMALL = (Role(name="1-gpu", replicas=3, per_pod=SMALL),)


def member(name: str, gpus: int, size: int, *, on: tuple[str, int] | None = None, **spec: Any) -> PodRecord:
    """A pod of a group of so many; `on`: the node and the rank that it runs with."""
    said = {"stint.dev/group-size": str(size)}
    where: dict[str, Any] = {}
    if on is not None:
        said["stint.dev/rank"] = str(on[1])
        where = {"gates": (), "node": on[0], "phase": "Running"}
    labels = {"stint.dev/group": "rl", "app": name}
    return pod(name, labels=labels, annotations=said, gpus=gpus, tolerations=TOLERATES, **where, **spec)


def seen(pods: list[PodRecord], nodes: list[NodeRecord], *, size: int, plan=None, others: tuple[PodRecord, ...] = ()):
    steers = {"kind": "Group", "name": "rl"}
    resource = a_resource(None, template=None, steers=steers, gpu={"perWorker": 8}, workers=size)
    notes = {PLAN_ANNOTATION: note(plan)} if plan else {}
    meta = msgspec.structs.replace(resource.metadata, name="group-rl", annotations=notes)
    resource = msgspec.structs.replace(resource, metadata=meta)
    return look(resources=[resource], nodes=nodes, pods=[*pods, *others], workloads=(), now=NOW)


def parts(*names: str) -> list[NodeRecord]:
    """Nodes n-NAME with the label part=NAME."""
    records = [a_record(f"n-{name}") for name in names]
    return [msgspec.structs.replace(r, labels={**r.labels, "part": n}) for r, n in zip(records, names, strict=True)]


def affinity(operator: str, value: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": "part", "operator": operator, "values": [value]}]}
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}}


def beside(kind: str, app: str) -> dict[str, Any]:
    term = {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": "kubernetes.io/hostname"}
    return {"affinity": {kind: {REQUIRED: [term]}}}


@pytest.mark.parametrize(
    "terms",
    [{"nodeSelector": {"part": "y"}}, affinity("In", "y"), affinity("NotIn", "x")],
    ids=["selector", "in", "not"],
)
def test_a_label_that_only_a_role_names_counts(terms):
    found = seen([member("a", 4, 2), member("b", 1, 2, **terms)], parts("x", "y"), size=2)
    (placed,) = decide(found.situation).placements
    assert placed.nodes[1] == "n-y"


@pytest.mark.parametrize(("kind", "at"), [("podAntiAffinity", "n-y"), ("podAffinity", "n-x")])
def test_a_role_looks_at_the_pods_that_are_there(kind, at):
    there = PodRecord(
        uid="agent",
        node="n-x",
        nominated="",
        phase="Running",
        requests=Resources(pods=1),
        gang=None,
        labels=(("app", "agent"),),
        namespace="team",
    )
    pods = [member("a", 4, 2), member("b", 1, 2, **beside(kind, "agent"))]
    (placed,) = decide(seen(pods, parts("x", "y"), size=2, others=(there,)).situation).placements
    assert placed.nodes[1] == at


def test_what_a_role_demands_of_its_own_gang_is_told_and_keeps_nobody_out():
    pods = [member("a", 4, 2), member("b", 1, 2, **beside("podAffinity", "a"))]
    found = seen(pods, parts("x"), size=2)
    assert decide(found.situation).placements
    (role,) = found.situation.jobs[0].roles
    assert not any(isinstance(t, PodTerm) for t in role.constraints.affinity)
    assert role.constraints.unmodelled == ("what pods of role 1-gpu demand of others of their gang",)


def slots(pods: list[PodRecord], plan) -> dict[str, str]:
    gang = look_group(group(*pods), plan, taken_back=None, lost_nodes=frozenset())
    return {p.gang.name: plan.nodes[p.gang.index] for p in gang.to_release() if p.gang}


def placed_as_planned(pods: list[PodRecord], nodes: list[NodeRecord]) -> dict[str, str]:
    found = seen(pods, nodes, size=len(pods))
    (placed,), (job,) = decide(found.situation).placements, found.situation.jobs
    return slots(pods, msgspec.structs.replace(a_plan(placed.nodes), per_worker=job.per_worker, roles=job.roles))


def test_pods_that_ask_for_the_same_on_other_terms_go_where_theirs_say():
    pods = [
        member(f"r{i}-{kind}", 4, 4, nodeSelector={"part": part})
        for i in range(2)
        for kind, part in (("actor", "x"), ("learner", "y"))
    ]
    found = placed_as_planned(pods, parts("x", "y"))
    assert found == {p: "n-x" if "actor" in p else "n-y" for p in found}
    assert len(found) == 4


def test_of_many_kinds_no_pod_gets_a_slot_that_is_too_small_for_it():
    def asks(gpus: int, cpu: int) -> dict[str, Any]:
        return {"containers": [{"resources": {"requests": {"nvidia.com/gpu": str(gpus), "cpu": str(cpu)}}}]}

    pods = [member(f"a{i}", 1, 12, **asks(1, i + 1)) for i in range(8)]
    pods += [member(f"b{i}", 8, 12, **asks(8, i + 1)) for i in range(4)]
    found = placed_as_planned(pods, [a_record(f"n{i}") for i in range(5)])
    load = {n: sum(p.requests.gpus for p in pods if p.gang and found[p.gang.name] == n) for n in found.values()}
    assert sorted(load.values()) == [8] * 5


def test_what_asks_for_more_than_was_planned_for_anybody_is_not_let_go():
    plan = msgspec.structs.replace(a_plan(("n1", "n2", "n2", "n2")), per_worker=BIG, roles=THREE_SMALL)
    runs = [member("a", 4, 4, on=("n1", 0)), member("b", 1, 4, on=("n2", 1)), member("c", 1, 4, on=("n2", 2))]
    assert slots([*runs, member("again", 8, 4)], plan) == {}
    assert slots([*runs, member("again", 1, 4)], plan) == {"again": "n2"}


def test_a_pod_too_many_leaves_a_running_gang_as_it_is():
    plan = msgspec.structs.replace(a_plan(("n1",) * 4), per_worker=BIG, roles=THREE_SMALL)
    runs = [member("a", 4, 4, on=("n1", 0)), *(member(n, 1, 4, on=("n1", i)) for i, n in enumerate("bcd", start=1))]
    found = seen([*runs, member("z", 1, 4)], [a_record("n1")], size=4, plan=plan)
    assert found.seen[KEY].invalid is None
    assert decide(found.situation).stays[0].job == KEY


def test_more_small_pods_than_the_group_is_to_have_are_told_as_too_many():
    pods = [member("a", 4, 2), *(member(n, 1, 2) for n in "bcd")]
    found = seen(pods, [a_record("n1")], size=2)
    assert found.seen[KEY].invalid is None
    assert "4 pods of Group rl wait, and there should be 2" in decide(found.situation).holds[0].message


@pytest.mark.parametrize(
    "roles",
    [
        (Role(name="x", replicas=10**10, per_pod=SMALL),),
        (Role(name="x", replicas=-1, per_pod=SMALL),),
        (Role(name="x", replicas=1, per_pod=Resources(gpus=-8)),),
    ],
    ids=["endless", "fewer than none", "gives GPUs"],
)
def test_a_note_whose_roles_cannot_be_is_none(roles):
    plan = msgspec.structs.replace(a_plan(("n1", "n2")), per_worker=BIG, roles=roles)
    assert read_note(note(plan)) is None


def test_an_older_note_without_roles_counts_each_pod_as_the_largest():
    text = note(msgspec.structs.replace(a_plan(("n1", "n1")), per_worker=BIG)).replace(',"roles":[]', "")
    plan = read_note(text)
    assert plan is not None
    assert [r.gpus for r in plan.by_rank()] == [4, 4]
