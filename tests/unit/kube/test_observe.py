from __future__ import annotations

import json
from datetime import datetime, timedelta

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.api.meta import Meta
from stint.api.pricebook import PriceBook
from stint.capacity.adapter import ORDERED_AT
from stint.decide import decide
from stint.feeds import bundled
from stint.kube import plan_note
from stint.kube.observe.snapshot import Caches, Observation, observe
from stint.kube.records import PodRecord
from stint.model.gang import GangState
from stint.model.job import Phase, job_id
from stint.model.market import Taint
from stint.model.plan import Reason
from stint.model.resources import Resources
from stint.model.situation import Settings
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_batch_job, a_gang_pod, a_plan, a_record, a_resource

CATALOGUE = bundled.load()
UNET = job_id("team", "unet")
RUNNING = [a_gang_pod(i, node="n1", phase="Running", gated=False) for i in range(2)]
HOUR = timedelta(hours=1)


def look(
    *,
    now: datetime = NOW,
    resources=(),
    nodes=(),
    pods=(),
    jobs=(),
    pools=(),
    books=(),
    workloads=(),
    measured=None,
    memory=None,
) -> Observation:
    caches = Caches(
        trainingjobs=list(resources),
        gpu_pools=list(pools),
        price_books=list(books),
        nodes=list(nodes),
        pods=list(pods),
        jobs=list(jobs),
        workloads=list(workloads),
    )
    created = {r.metadata.uid: NOW - HOUR for r in resources}
    return observe(
        caches, CATALOGUE, Settings(), now=now, created=created, empty_since={}, measured=measured, memory=memory
    )


@pytest.mark.parametrize("pods", [[], [a_gang_pod(0), a_gang_pod(1)], RUNNING], ids=["none yet", "gated", "running"])
def test_a_placed_gang_counts_once_whether_its_pods_are_there_or_not(pods):
    seen = look(resources=[a_resource()], nodes=[a_record()], pods=pods, jobs=[a_batch_job()])
    (node,) = seen.situation.nodes
    assert node.used.gpus == 8


def test_other_peoples_pods_count_until_they_have_ended():
    needs = Resources(gpus=2, pods=1)
    pods = [
        PodRecord(uid=p, node="n1", nominated="", phase=p, requests=needs, gang=None) for p in ("Running", "Succeeded")
    ]
    (node,) = look(nodes=[a_record()], pods=pods).situation.nodes
    assert node.used.gpus == 2


def test_what_daemon_sets_take_of_a_node_is_not_allocatable():
    """It stays as long as the node: a worker that does not fit beside it exceeds the node, and no waiting helps."""
    pods = [
        PodRecord(
            uid=name,
            node="n1",
            nominated="",
            phase="Running",
            requests=Resources(gpus=gpus, cpu=6, memory_gib=4, pods=1),
            gang=None,
            daemon=True,
        )
        for name, gpus in (("agent", 0), ("holds-a-gpu", 1))
    ]
    (node,) = look(nodes=[a_record()], pods=pods).situation.nodes
    assert node.allocatable == Resources(gpus=8, cpu=90, memory_gib=996, pods=109)
    assert node.used == Resources(gpus=1, cpu=6, memory_gib=4, pods=1)
    large = {"containers": [{"name": "train", "image": "x", "resources": {"requests": {"cpu": "91"}}}]}
    waits = a_resource(workers=1, template={"spec": large})
    (hold,) = decide(look(resources=[waits], nodes=[a_record()], pods=pods[:1]).situation).holds
    assert hold.reason is Reason.WORKER_EXCEEDS_NODE


def test_room_that_the_scheduler_makes_for_a_pod_is_that_pods():
    """Otherwise a gang that was preempted would go straight back to where it is not wanted."""
    pod = PodRecord(uid="p", node="", nominated="n1", phase="Pending", requests=Resources(gpus=3, pods=1), gang=None)
    (node,) = look(nodes=[a_record()], pods=[pod]).situation.nodes
    assert node.used.gpus == 3


def test_pods_of_a_gang_that_leaves_count_until_they_are_gone():
    seen = look(resources=[a_resource()], nodes=[a_record()], pods=RUNNING, jobs=[a_batch_job(suspended=True)])
    assert seen.situation.nodes[0].used.gpus == 8
    job = seen.seen[UNET].job
    assert job is not None
    assert job.not_before is not None  # so that it does not compete with itself


def test_a_parked_job_costs_nothing():
    booked = {"spentExactly": 7.0, "spentThrough": (NOW - HOUR).isoformat()}
    seen = look(resources=[a_resource(booked)], jobs=[a_batch_job(suspended=True)]).seen[UNET]
    assert (seen.spent_usd, seen.gang.state) == (7.0, GangState.PARKED)


def test_progress_follows_the_speed_while_it_runs_and_what_survived_while_it_does_not():
    half = {"progress": {"unitsDone": 3600.0, "runningSince": (NOW - 2 * HOUR).isoformat()}}
    runs = look(resources=[a_resource(half)], nodes=[a_record()], pods=RUNNING, jobs=[a_batch_job()]).seen[UNET]
    assert runs.progress.estimate == pytest.approx(3600 + 7200)
    assert runs.job is not None
    assert runs.job.work.units_done == runs.progress.estimate
    stands = look(resources=[a_resource(half)], jobs=[a_batch_job(suspended=True)]).seen[UNET]
    assert (stands.progress.estimate, stands.progress.running_since) == (3600.0, None)


def test_ends_are_told_by_the_job_and_stay():
    done = look(resources=[a_resource()], jobs=[a_batch_job(complete=True)]).seen[UNET]
    assert (done.phase, done.job) == (Phase.SUCCEEDED, None)
    kept = look(resources=[a_resource({"phase": "Succeeded"})]).seen[UNET]
    assert (kept.phase, kept.job) == (Phase.SUCCEEDED, None)


@pytest.mark.parametrize(("attempt", "phase"), [(0, None), (3, Phase.FAILED)])
def test_a_failed_gang_is_given_up_after_its_retries(attempt, phase):
    job = a_batch_job(a_plan(attempt=attempt), failed_message="exit 1")
    assert look(resources=[a_resource()], jobs=[job]).seen[UNET].phase is phase


def test_an_unusable_spec_is_kept_out_of_the_decision():
    seen = look(resources=[a_resource(gpu={"perWorker": 1, "models": ["Voodoo2"]})])
    assert seen.situation.jobs == ()
    assert seen.seen[UNET].phase is Phase.INVALID


def test_the_providers_notice_makes_a_node_unusable():
    (node,) = look(nodes=[a_record(taints=(Taint(key="stint.dev/interrupted"),))]).situation.nodes
    assert node.interrupted
    assert not node.usable


def test_a_node_under_way_is_expected_and_given_up_in_the_end():
    def coming(ordered: datetime):

        from stint.api.gpupool import GPUPool

        spec = {
            "nodeSelector": {"pool": "p"},
            "coldStartSeconds": 300,
            "limits": {"maxNodes": 2},
            "scaler": {"adapter": "Kwok", "mode": "Act"},
            "offerings": [{"provider": "aws", "zone": "us-east-1a", "instanceType": "p4de.24xlarge"}],
        }
        pool = msgspec.convert({"metadata": {"name": "p", "uid": "p"}, "spec": spec}, GPUPool)
        node = a_record(ready=False, labels={"pool": "p"}, annotations={"stint.dev/ordered-at": ordered.isoformat()})
        caches = Caches(trainingjobs=[], gpu_pools=[pool], price_books=[], nodes=[node], pods=[], jobs=[])
        return observe(caches, CATALOGUE, Settings(), now=NOW, created={}, empty_since={}).situation.nodes[0].ready_at

    assert coming(NOW) == NOW + timedelta(minutes=5)
    assert coming(NOW - timedelta(minutes=10)) == NOW + timedelta(seconds=30)
    assert coming(NOW - timedelta(minutes=16)) is None


def test_what_has_ended_costs_nothing_more():
    ended = {"phase": "Succeeded", "spentExactly": 5.0, "spentThrough": (NOW - HOUR).isoformat()}
    seen = look(resources=[a_resource(ended)], jobs=[a_batch_job(a_plan(since=NOW - 2 * HOUR))]).seen[UNET]
    assert (seen.spent_usd, seen.spending.through) == (5.0, NOW - HOUR)


def test_progress_never_goes_past_the_end():
    half = {"progress": {"unitsDone": 30_000.0, "runningSince": (NOW - 5 * HOUR).isoformat()}}
    seen = look(resources=[a_resource(half)], nodes=[a_record()], pods=RUNNING, jobs=[a_batch_job()]).seen[UNET]
    assert seen.progress.estimate == 36_000


def test_gated_pods_do_no_work():
    waiting = [a_gang_pod(0), a_gang_pod(1)]
    seen = look(resources=[a_resource()], nodes=[a_record()], pods=waiting, jobs=[a_batch_job()]).seen[UNET]
    assert (seen.progress.estimate, seen.progress.running_since) == (0.0, None)


def test_blamed_nodes_stay_blamed_for_a_while_after_the_back_off():
    def avoided(minutes: float) -> tuple[str, ...]:
        since = (NOW - timedelta(minutes=minutes)).isoformat()
        job = look(resources=[a_resource({"avoid": ["n1"], "notBefore": since})], nodes=[a_record()]).seen[UNET].job
        assert job is not None
        return job.avoid

    assert (avoided(9), avoided(11)) == (("n1",), ())


def test_two_gangs_on_one_node_are_both_counted():
    plan = a_plan(("n1",))
    other = msgspec.structs.replace(a_resource(workers=1), metadata=Meta(name="bert", namespace="team", uid="b"))
    jobs = [
        a_batch_job(plan, completions=1),
        a_batch_job(plan, completions=1, name="bert", job="bert", uid="b2", owner="b"),
    ]
    found = observe(
        Caches(
            trainingjobs=[a_resource(workers=1), other],
            gpu_pools=[],
            price_books=[],
            nodes=[a_record()],
            pods=[],
            jobs=jobs,
        ),
        CATALOGUE,
        Settings(),
        now=NOW,
        created={"u": NOW, "b": NOW},
        empty_since={},
    )
    assert found.situation.nodes[0].used.gpus == 8


def test_the_same_caches_give_the_same_situation_whatever_their_order():
    nodes = [a_record(f"n{i}") for i in range(3)]
    one = look(resources=[a_resource()], nodes=nodes, pods=RUNNING, jobs=[a_batch_job()]).situation
    two = look(resources=[a_resource()], nodes=nodes, pods=RUNNING[::-1], jobs=[a_batch_job()]).situation
    assert one == two


def test_a_gang_that_status_says_is_taken_back_is_on_its_way_out_whatever_its_job_looks_like():
    """The operator was killed between the two writes."""
    plan = a_plan(since=NOW - HOUR)
    back = {"phase": "Queued", "reason": "Disrupted", "takenBack": plan.since.isoformat(), "retries": 1}
    for job in (a_batch_job(plan), a_batch_job(plan, failed_message="exit 1")):
        seen = look(resources=[a_resource(back)], nodes=[a_record()], pods=RUNNING, jobs=[job]).seen[UNET]
        assert seen.gang.state is GangState.TAKEN_BACK
        assert seen.phase is None
        assert seen.job is not None
        assert seen.job.assignment is None
        assert seen.job.not_before is not None, "it competes while its pods are still there"
    later = a_batch_job(a_plan(since=NOW))
    assert (
        look(resources=[a_resource(back)], nodes=[a_record()], jobs=[later]).seen[UNET].gang.state is GangState.PLACED
    )


def test_a_running_gang_is_booked_as_it_was_placed_and_not_as_its_spec_was_edited_since():
    plan = msgspec.structs.replace(a_plan(), per_worker=Resources(gpus=4, cpu=8, memory_gib=64, pods=1))
    edited = a_resource(gpu={"perWorker": 1})
    (node,) = look(resources=[edited], nodes=[a_record()], pods=RUNNING, jobs=[a_batch_job(plan)]).situation.nodes
    assert node.used.gpus == 8


@pytest.mark.parametrize(
    "ordered", ["yesterday", "2026-07-01T00:00:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]
)
def test_a_node_whose_order_somebody_else_wrote_down_stops_nobody(ordered):
    late = a_record("n2", ready=False, annotations={ORDERED_AT: ordered})
    seen = look(resources=[a_resource()], nodes=[a_record(), late])
    assert [n.name for n in seen.situation.nodes if n.usable] == ["n1"]


@pytest.mark.parametrize(
    "status",
    [
        {"spentExactly": -1e300, "spentThrough": "9999-12-31T23:59:59Z"},
        {"notBefore": "9999-12-31T23:59:59Z"},
        {"notBefore": "0001-01-01T00:00:00Z", "avoid": ["n1"]},
        {"progress": {"unitsDone": -5, "estimate": 1e300, "runningSince": "0001-01-01T00:00:00Z"}},
        {"takenBack": "0001-01-01T00:00:00Z"},
    ],
    ids=str,
)
def test_a_status_that_somebody_else_wrote_stops_nobody(status):
    """Anybody who may write TrainingJobs may write that; the others' jobs are seen as ever."""
    other = a_resource()
    other = msgspec.structs.replace(other, metadata=Meta(name="other", namespace="team", uid="u2", generation=1))
    seen = look(resources=[a_resource(status), other], nodes=[a_record()], pods=RUNNING, jobs=[a_batch_job()]).seen
    assert seen[job_id("team", "other")].job is not None


@pytest.mark.parametrize(
    "note", [{"since": "2026-01-01T00:00:00"}, {"usdPerHour": -1}, {"nodes": []}, {"attempt": -1}, {"finish": "soon"}]
)
def test_a_plan_that_is_none_is_not_read(note):
    whole = msgspec.json.decode(plan_note.note(a_plan()))
    assert plan_note.read_note(json.dumps(whole)) == a_plan()
    assert plan_note.read_note(json.dumps(whole | note)) is None


def test_parts_of_gpus_count_where_a_node_gives_out_parts_and_nowhere_else():
    instances = {"nvidia.com/mig-1g.10gb": 7}
    nodes = [a_record("whole", slices=instances), a_record("parts", gpus=0, slices=instances)]
    pods = [
        PodRecord(uid=n.name, node=n.name, nominated="", phase="Running", requests=Resources(), gang=None, slices=2)
        for n in nodes
    ]
    seen = look(nodes=nodes, pods=pods).situation
    taken = {n.name: (n.used.gpus, n.allocatable.gpus) for n in seen.nodes}
    assert taken == {"whole": (0, 8), "parts": (2, 7)}


def test_nodes_carry_the_label_that_a_topology_names():
    node = a_record(labels={**a_record().labels, "rack": "a", "row": "b"})
    (seen,) = look(resources=[a_resource(topology={"within": "rack"})], nodes=[node]).situation.nodes
    assert seen.labels == {"rack": "a"}


def test_nodes_beyond_what_is_reserved_have_their_ordinary_price():
    ri = {"name": "ri", "provider": "aws", "instanceType": "p4de.24xlarge", "nodes": 1, "usdPerNodeHour": 20}
    book = msgspec.convert({"metadata": {"name": "b"}, "spec": {"commitments": [ri]}}, PriceBook)

    def prices(*nodes: str) -> tuple[float, float]:
        (offering,) = look(nodes=[a_record(n) for n in nodes], books=[book]).situation.offerings
        assert offering.usd_per_node_hour is not None
        assert offering.billed_usd_per_node_hour is not None
        return offering.usd_per_node_hour.value, offering.billed_usd_per_node_hour.value

    listed = CATALOGUE.list_price("aws", "us-east-1", "p4de.24xlarge").value
    assert prices("n1") == (0, 20)
    assert prices("n1", "n2") == pytest.approx((listed / 2, (20 + listed) / 2))


def test_a_commitment_is_no_licence_to_buy_without_end():
    ri = {"name": "ri", "provider": "aws", "instanceType": "p4de.24xlarge", "nodes": 1, "usdPerNodeHour": 20}
    book = msgspec.convert({"metadata": {"name": "b"}, "spec": {"commitments": [ri]}}, PriceBook)
    spec = {
        "nodeSelector": {"pool": "a"},
        "offerings": [{"provider": "aws", "zone": "us-east-1a", "instanceType": "p4de.24xlarge"}],
        "limits": {"maxNodes": 9},
        "scaler": {"adapter": "Kwok", "mode": "Act"},
    }
    pool = msgspec.convert({"metadata": {"name": "a"}, "spec": spec}, GPUPool)
    node = a_record("n1", labels=a_record().labels | {"pool": "a"})
    situation = look(
        nodes=[node], books=[book], pools=[pool], resources=[a_resource(workers=4, gpu={"perWorker": 8})]
    ).situation
    (offering,) = situation.offerings
    listed = CATALOGUE.list_price("aws", "us-east-1", "p4de.24xlarge").value
    assert offering.usd_per_node_hour.value == 0
    assert offering.usd_per_new_node_hour.value == pytest.approx(listed)
    (resize,) = decide(situation).resizes
    assert resize.to_nodes == 4
    assert resize.usd_per_hour == pytest.approx(listed * (resize.to_nodes - resize.from_nodes))
