"""What is learnt from nodes that were ordered, as each GPUPool's status keeps it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.api.trainingjob import TrainingJob
from stint.capacity.adapter import BOUGHT_BY, ORDERED_AT
from stint.decide import decide
from stint.kube.observe.memory import Memory
from stint.kube.observe.snapshot import Caches, Observation, observe
from stint.kube.records import NodeRecord, PodRecord
from stint.lifecycle.retries import next_order
from stint.model.job import WhyNoNew, job_id
from stint.model.plan import Reason
from stint.model.resources import Resources
from stint.model.situation import Settings
from stint.testing.builders import NOW
from stint.views.pool_status import late_told, pool_status, refusals_told
from tests.unit.kube.objects import P4DE, a_record
from tests.unit.kube.test_observe import CATALOGUE

MINUTE = timedelta(minutes=1)
OFFERING = "big/p4de.24xlarge/us-east-1a/on-demand"
DEAR = "dear/p4de.24xlarge/us-east-1b/on-demand"


CONTAINER = {"name": "train", "image": "x", "resources": {"requests": {"cpu": "90"}}}


def a_job(name: str = "large", cpu: str = "90", generation: int = 1, **spec: Any) -> TrainingJob:
    container = {"name": "train", "image": "x", "resources": {"requests": {"cpu": cpu}}}
    full = {
        "workers": 1,
        "gpu": {"perWorker": 8},
        "work": {"units": 36000, "unitsPerSecond": {"A100-80GB": 1.0}},
        "template": {"spec": {"containers": [container]}},
        **spec,
    }
    meta = {"name": name, "namespace": "team", "uid": name, "generation": generation}
    return msgspec.convert({"metadata": meta, "spec": full}, TrainingJob)


def a_pool(name: str = "big", zone: str = "us-east-1a", **more: Any) -> GPUPool:
    kind = {"provider": "aws", "zone": zone, "instanceType": "p4de.24xlarge", "capacityType": "on-demand"}
    spec = {
        "nodeSelector": {"pool": name},
        "offerings": [kind],
        "limits": {"maxNodes": 9},
        "scaler": {"adapter": "Kwok", "mode": "Act"},
        "coldStartSeconds": 60,
    }
    return msgspec.convert({"metadata": {"name": name, "uid": name}, "spec": {**spec, **more}}, GPUPool)


def an_order(*jobs: str, at: datetime = NOW, nodes: int = 1) -> dict[str, Any]:
    return {"offering": OFFERING, "nodes": nodes, "at": at.isoformat(), "jobs": [f"team/{j}" for j in jobs]}


def with_status(pool: GPUPool, **status: Any) -> GPUPool:
    told = {**msgspec.to_builtins(pool.status), **status}
    return msgspec.convert({**msgspec.to_builtins(pool), "status": told}, GPUPool)


def bought(name: str = "n1", at: datetime = NOW, **changes: Any) -> NodeRecord:
    notes = {ORDERED_AT: at.isoformat(), BOUGHT_BY: "stint"}
    return a_record(name, labels={**P4DE, "pool": "big"}, annotations=notes, **changes)


def an_agent(cpu: float = 10.0, node: str = "n1") -> PodRecord:
    return PodRecord(
        uid="agent", node=node, nominated="", phase="Running", requests=Resources(cpu=cpu, pods=1), gang=None
    )


def look(
    pool: GPUPool | list[GPUPool], *jobs: TrainingJob, nodes=(), pods=(), after: timedelta, empty=2 * MINUTE, pace=1.0
) -> Observation:
    """`after` the order; its nodes have been empty for that long."""
    now = NOW + after
    pools = pool if isinstance(pool, list) else [pool]
    caches = Caches(trainingjobs=jobs, gpu_pools=pools, price_books=[], nodes=list(nodes), pods=list(pods), jobs=[])
    since = {n.name: now - empty for n in nodes if n.ready}
    memory = Memory(begun=True, created={n.name: n.created for n in nodes if n.created})
    settings = replace(Settings(), pace=pace)
    created = {j.metadata.uid: NOW - MINUTE for j in jobs}
    return observe(caches, CATALOGUE, settings, now=now, created=created, empty_since=since, memory=memory)


def told(pool: GPUPool, seen: Observation) -> GPUPool:
    """The pool as it is after a cycle."""
    status = pool_status(pool, seen, decide(seen.situation))
    return msgspec.structs.replace(pool, status=status)


def bars(seen: Observation, name: str = "large") -> dict[str, WhyNoNew]:
    job = seen.seen[job_id("team", name)].job
    assert job is not None
    return {n.offering: n.why for n in job.no_new}


def ordered(*jobs: str, nodes: int = 1) -> GPUPool:
    return with_status(a_pool(), orders=[an_order(*jobs, nodes=nodes)])


class TestWhileAnOrderIsOnItsWay:
    def test_no_more_is_ordered_for_its_job_and_others_may_order(self):
        seen = look(ordered("large"), a_job(), a_job("other"), after=timedelta(seconds=5))
        assert bars(seen) == {"": WhyNoNew.ON_ORDER}
        assert bars(seen, "other") == {}
        plan = decide(seen.situation)
        assert [r.for_jobs for r in plan.resizes] == [("team/other",)]
        (held,) = [h for h in plan.holds if h.job == "team/large"]
        assert held.reason is Reason.NODES_ON_THE_WAY
        assert "no more are ordered for it until they have shown" in held.message

    def test_a_node_that_came_and_fits_is_used(self):
        seen = look(ordered("large"), a_job(), nodes=[bought()], after=MINUTE)
        (placement,) = decide(seen.situation).placements
        assert placement.nodes == ("n1",)

    def test_it_is_over_once_another_job_has_what_it_brought(self):
        other = PodRecord(
            uid="o", node="n1", nominated="", phase="Running", requests=Resources(gpus=8, cpu=8, pods=1), gang=None
        )
        pool = ordered("large")
        seen = look(pool, a_job(), nodes=[bought()], pods=[other], after=MINUTE)
        assert bars(seen) == {}
        assert told(pool, seen).status.orders == []

    def test_a_job_that_is_gone_waits_for_nothing(self):
        pool = ordered("large")
        assert told(pool, look(pool, nodes=[bought()], after=MINUTE)).status.orders == []


class TestANodeThatDidNotHelp:
    def refused(self, **more: Any) -> tuple[GPUPool, Observation]:
        pool = ordered("large")
        seen = look(pool, a_job(), nodes=[bought()], pods=[an_agent()], after=2 * MINUTE, **more)
        return told(pool, seen), seen

    def test_is_a_fact_that_names_the_resource(self):
        pool, seen = self.refused()
        (fact,) = pool.status.refused
        assert fact.message == "a worker asks for 90 CPU cores, node n1 has 86 left beside the pods that run there"
        assert (fact.job, fact.cpu, fact.times) == ("team/large", 90, 1)
        assert fact.until == NOW + 5 * MINUTE
        assert pool.status.orders == []
        plan = decide(seen.situation)
        assert plan.resizes == ()
        (held,) = plan.holds
        assert held.reason is Reason.PURCHASE_DID_NOT_HELP
        assert "90 CPU cores" in held.message
        assert "none is ordered again before 12:05:00 UTC" in held.message
        assert refusals_told(ordered("large"), pool.status) == [fact]
        assert refusals_told(pool, pool.status) == []

    def test_is_not_one_in_the_first_moment(self):
        pool, seen = self.refused(empty=timedelta(seconds=1))
        assert pool.status.refused == []
        assert bars(seen) == {"": WhyNoNew.ON_ORDER}

    @pytest.mark.parametrize(
        ("job", "barred"),
        [
            (a_job("alike"), True),
            (a_job("larger", cpu="94"), True),
            (a_job("smaller", cpu="80"), False),
            (a_job("elsewhere", template={"spec": {"nodeSelector": {"a": "b"}, "containers": [CONTAINER]}}), False),
            (a_job(generation=2), False),
        ],
        ids=lambda j: j.metadata.name if isinstance(j, TrainingJob) else "",
    )
    def test_concerns_jobs_that_need_as_much_and_demand_the_same(self, job, barred):
        pool, _ = self.refused()
        seen = look(pool, job, after=3 * MINUTE)
        assert (bars(seen, job.metadata.name) == {OFFERING: WhyNoNew.DID_NOT_HELP}) is barred

    def test_what_other_namespaces_run_is_not_told(self):
        pool, _ = self.refused()
        theirs = a_job("secret-project")
        theirs = msgspec.structs.replace(theirs, metadata=msgspec.structs.replace(theirs.metadata, namespace="rival"))
        seen = look(pool, a_job("beside"), theirs, after=3 * MINUTE)
        of = {key: " ".join(n.message for n in s.job.no_new) for key, s in seen.seen.items() if s.job is not None}
        assert "job team/large, which needs no more" in of["team/beside"]
        assert "another namespace's job, which needs no more" in of["rival/secret-project"]
        assert "team/large" not in of["rival/secret-project"]

    def test_is_tried_again_after_a_time_that_doubles(self):
        pool, _ = self.refused()
        later = look(pool, a_job(), after=6 * MINUTE)
        assert bars(later) == {}
        pool = told(pool, later)
        again = with_status(pool, orders=[an_order("large", at=NOW + 6 * MINUTE)])
        node = bought("n2", at=NOW + 6 * MINUTE)
        seen = look(again, a_job(), nodes=[node], pods=[an_agent(node="n2")], after=8 * MINUTE)
        (fact,) = told(again, seen).status.refused
        assert (fact.times, fact.until) == (2, NOW + 14 * MINUTE)

    def test_is_forgotten_once_the_nodes_are_others(self):
        pool, _ = self.refused()
        pool = with_status(pool, newNodes=[])
        other = msgspec.structs.replace(pool, spec=a_pool(zone="us-east-1b").spec)
        assert bars(look(other, a_job(), after=3 * MINUTE)) == {}

    def test_counts_as_well_when_it_was_gone_before_the_time_was_over(self):
        pool, _ = self.refused(empty=timedelta(seconds=1))
        seen = look(pool, a_job(), after=3 * MINUTE)
        assert "90 CPU cores" in told(pool, seen).status.refused[0].message

    def test_may_be_one_that_kube_scheduler_refused(self):
        blamed = {
            "node": "n1",
            "offering": OFFERING,
            "reason": "DidNotStart",
            "said": "Unschedulable",
            "since": (NOW + MINUTE).isoformat(),
            "until": (NOW + 9 * MINUTE).isoformat(),
            "generation": 1,
        }
        status = {"blamed": [blamed], "reason": "DidNotStart", "message": "1 Insufficient rdma/hca"}
        job = msgspec.convert({**msgspec.to_builtins(a_job()), "status": status}, TrainingJob)
        pool = ordered("large")
        (fact,) = told(pool, look(pool, job, nodes=[bought()], after=2 * MINUTE)).status.refused
        assert fact.message == "1 Insufficient rdma/hca"


class TestAnOrderThatDoesNotCome:
    def test_backs_off_and_the_next_best_is_used(self):
        pools = [ordered("large"), a_pool("dear", zone="us-east-1b")]
        seen = look(pools, a_job(), nodes=[bought(ready=False)], after=4 * MINUTE)
        (late,) = told(pools[0], seen).status.late
        assert late.message == f"1 of {OFFERING} ordered, and 0 ready after 240 s"
        assert late.until == NOW + 7 * MINUTE
        assert [r.offering for r in decide(seen.situation).resizes] == [DEAR]
        assert late_told(pools[0], told(pools[0], seen).status) == [late]

    def test_is_waited_for_three_cold_starts(self):
        seen = look(ordered("large"), a_job(), nodes=[bought(ready=False)], after=2 * MINUTE)
        assert bars(seen) == {"": WhyNoNew.ON_ORDER}

    def test_is_known_at_once_where_nodes_are_announced(self):
        """As after an operator that ended between noting an order and carrying it out."""
        pool = ordered("large")
        assert told(pool, look(pool, a_job(), after=timedelta(seconds=16))).status.late
        assert not told(pool, look(pool, a_job(), after=timedelta(seconds=14))).status.late

    def test_or_comes_as_something_else(self):
        pool = ordered("large")
        labels = {**P4DE, "pool": "big", "karpenter.sh/capacity-type": "spot"}
        other = msgspec.structs.replace(bought(at=NOW + timedelta(seconds=5)), labels=labels)
        (late,) = told(pool, look(pool, a_job(), nodes=[other], after=MINUTE)).status.late
        assert "node n1 came as big/p4de.24xlarge/us-east-1a/spot" in late.message

    def test_one_that_comes_in_time_ends_the_back_off(self):
        late = {"offering": OFFERING, "since": NOW.isoformat(), "until": (NOW + 3 * MINUTE).isoformat(), "times": 3}
        pool = with_status(ordered("large"), late=[late])
        assert told(pool, look(pool, a_job(), nodes=[bought()], after=MINUTE)).status.late == []


def test_back_off_doubles_from_three_minutes_to_an_hour():
    waits = [(next_order(NOW, n) - NOW) / MINUTE for n in (1, 2, 3, 4, 5, 6, 60)]
    assert waits == [3, 6, 12, 24, 48, 60, 60]
    assert next_order(NOW, 1, pace=2.0) - NOW == 6 * MINUTE
