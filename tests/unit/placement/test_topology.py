from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from stint.decide import decide
from stint.model.cluster import HOSTNAME, ZONE
from stint.model.job import Topology
from stint.model.plan import Reason
from stint.placement import queue
from stint.placement.problem import build_problem
from stint.placement.solver import Assignment, Choice
from stint.placement.verify import violations
from stint.testing.builders import NOW, a_job, a_node, a_pool, a_situation, an_offering, running_on

RACK = "cloud.provider.com/topology-rack"
OFFERING = an_offering()


def nodes_in(**racks):
    """Nodes by rack, each with as many GPUs in use as told; their names begin with the rack's."""
    return [
        a_node(f"{rack}{i}", OFFERING, used_gpus=used, labels={RACK: rack} if rack != "none" else {})
        for rack, all_used in racks.items()
        for i, used in enumerate(all_used)
    ]


def gang(*, key=RACK, required=True, **changes):
    return a_job(**{"workers": 2, "topology": Topology(key=key, required=required), **changes})


def plan_of(job, nodes, *others, **changes):
    return decide(a_situation(offerings=[OFFERING], nodes=nodes, jobs=[job, *others], **changes))


def nodes_of(plan):
    (placement,) = plan.placements
    return sorted(placement.nodes)


class TestOneDomain:
    def test_the_snuggest_that_holds_the_gang(self):
        assert nodes_of(plan_of(gang(), nodes_in(a=[0, 0, 0], b=[0, 8], c=[0, 0]))) == ["c0", "c1"]

    def test_the_first_of_equals(self):
        assert nodes_of(plan_of(gang(), nodes_in(a=[0, 8], b=[0, 0], c=[0, 0]))) == ["b0", "b1"]

    def test_not_where_the_label_is_missing(self):
        assert nodes_of(plan_of(gang(), nodes_in(none=[0, 0, 0], a=[0, 0]))) == ["a0", "a1"]

    def test_waits_until_one_is_free_though_the_cluster_has_room(self):
        nodes = nodes_in(a=[0, 8], b=[0, 8])
        runs = running_on(a_job("runs"), nodes[3], offering=OFFERING, hours_left=2.0)
        (hold,) = plan_of(gang(), nodes, runs).holds
        assert hold.reason is Reason.NOT_ENOUGH_GPUS
        assert hold.chosen.start == NOW + timedelta(hours=2)
        assert nodes_of(plan_of(gang(required=False), nodes, runs)) == ["a0", "b0"]

    def test_several_workers_on_a_node_count(self):
        job = gang(workers=3, gpus=4)
        assert nodes_of(plan_of(job, nodes_in(a=[4, 4], b=[0, 4]))) == ["b0", "b0", "b1"]


class TestPreferred:
    def test_one_domain_where_one_fits(self):
        assert nodes_of(plan_of(gang(required=False), nodes_in(a=[0], b=[0], c=[0, 0]))) == ["c0", "c1"]

    def test_else_wherever_there_is_room(self):
        assert nodes_of(plan_of(gang(required=False), nodes_in(a=[0], b=[0]))) == ["a0", "b0"]
        assert nodes_of(plan_of(gang(required=False), nodes_in(none=[0, 0]))) == ["none0", "none1"]


class TestHost:
    def test_all_workers_on_one_node_though_nodes_carry_no_label(self):
        job = gang(key=HOSTNAME, gpus=2)
        assert nodes_of(plan_of(job, nodes_in(none=[6, 6, 2, 4]))) == ["none3", "none3"]

    def test_a_gang_that_is_larger_than_every_node_is_told_so(self):
        (hold,) = plan_of(gang(key=HOSTNAME), nodes_in(a=[0, 0])).holds
        assert hold.reason is Reason.TOPOLOGY_MISMATCH
        assert f"needs 2 workers within one {HOSTNAME}, at most 1 fit in one, even when it is empty" in hold.message

    def test_one_node_is_bought_for_all(self):
        job = gang(key=HOSTNAME, gpus=4)
        plan = plan_of(job, nodes_in(a=[4, 4]), pools=[a_pool(OFFERING, scaler="Kwok", most=9)])
        assert [(r.from_nodes, r.to_nodes) for r in plan.resizes] == [(2, 3)]


class TestZone:
    pools = (a_pool(OFFERING, scaler="Kwok", most=9),)

    def test_bought_nodes_join_those_of_their_zone(self):
        here = a_node("here", OFFERING, labels={ZONE: OFFERING.zone})
        plan = plan_of(gang(key=ZONE), [here], pools=self.pools)
        assert [(r.from_nodes, r.to_nodes) for r in plan.resizes] == [(1, 2)]

    def test_and_no_others(self):
        plan = plan_of(gang(key=ZONE), [a_node("lost", OFFERING)], pools=self.pools)
        assert [(r.from_nodes, r.to_nodes) for r in plan.resizes] == [(1, 3)]

    def test_of_a_rack_nobody_knows_which_one_a_new_node_is_in(self):
        plan = plan_of(gang(), [], pools=self.pools)
        assert plan.resizes == ()
        assert f"what {RACK} new nodes would have is not known beforehand" in plan.holds[0].message

    def test_a_pool_at_its_limit_says_so(self):
        here = a_node("here", OFFERING, labels={ZONE: OFFERING.zone})
        (hold,) = plan_of(gang(key=ZONE), [here], pools=[a_pool(OFFERING, scaler="Kwok", most=1)]).holds
        assert hold.reason is Reason.POOL_LIMIT
        assert f"needs 16 A100-80GB within one {ZONE}, 8 free in the best" in hold.message


class TestWhyNot:
    def test_too_little_free_in_every_domain(self):
        (hold,) = plan_of(gang(), nodes_in(a=[0, 8], b=[0, 8])).holds
        assert hold.reason is Reason.NOT_ENOUGH_GPUS
        assert f"needs 16 A100-80GB within one {RACK}, 8 free in the best of {OFFERING.id}" in hold.message

    def test_nodes_without_the_label(self):
        (hold,) = plan_of(gang(), nodes_in(none=[0, 0])).holds
        assert hold.reason is Reason.TOPOLOGY_MISMATCH
        assert f"its nodes lack the label {RACK}, which spec.topology.within asks for" in hold.message

    def test_like_jobs_with_other_topologies_are_told_their_own(self):
        plan = plan_of(gang(), nodes_in(none=[0, 0]), gang(name="other", key=HOSTNAME))
        assert [h.message.count(HOSTNAME) for h in sorted(plan.holds, key=lambda h: h.job)] == [0, 1]


class TestTheVerifier:
    @pytest.mark.parametrize(
        ("required", "nodes", "fine"),
        [
            (True, (0, 1), True),
            (True, (1, 2), False),  # two racks
            (True, (3, 4), False),  # none
            (True, (0, 3), False),  # one and none
            (False, (1, 2), True),
        ],
    )
    def test_refuses_a_gang_that_is_spread(self, required, nodes, fine):
        situation = a_situation(
            offerings=[OFFERING], nodes=nodes_in(a=[0, 0], b=[0], none=[0, 0]), jobs=[gang(required=required)]
        )
        problem = build_problem(situation, queue.in_order(situation))
        column = int(np.flatnonzero(~problem.columns.buys)[0])
        told = violations(problem, Assignment(choices=(Choice(column=column, start_hours=0.0, nodes=nodes),)))
        assert told == ([] if fine else [f"team/llama: nodes {sorted(nodes)} do not share one {RACK}"])
