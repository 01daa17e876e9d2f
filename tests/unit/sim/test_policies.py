"""Every policy, under the same rules."""

from dataclasses import replace

import numpy as np
import pytest

from stint.model.offering import CapacityType
from stint.sim.loop import simulate
from stint.sim.policies import POLICIES, stratus
from stint.testing.builders import a_pool, an_offering
from tests.stages import ON_DEMAND, SPOT, a_stage, submitted

BIG = an_offering("big", usd=40.0, model="H100-SXM", instance_type="p5.48xlarge")
SMALL = an_offering("small", usd=1.5, gpus=1, model="A10G", instance_type="g5.xlarge")
SPEEDS = {"A100-80GB": 1.0, "H100-SXM": 2.0, "A10G": 0.1}


def _starts(name, jobs, offerings, **changes):
    outcome = simulate(a_stage(jobs, offerings, **changes), POLICIES[name])
    assert outcome.finished == len(jobs)
    return {e.job: e.text.split("/")[0].split(" x ")[1] for e in outcome.log if e.what == "place"}


@pytest.mark.parametrize("name", POLICIES)
class TestEveryPolicy:
    def test_ends_all_jobs_and_books_every_dollar(self, name):
        jobs = [submitted(f"j{i}", i * 0.4, hours=1.0 + i % 5, gpus=2 ** (i % 4)) for i in range(24)]
        outcome = simulate(a_stage(jobs), POLICIES[name], seed=2)
        assert outcome.finished == 24
        assert outcome.total_usd == pytest.approx(outcome.node_usd)

    def test_places_gangs_whole(self, name):
        jobs = [submitted(f"j{i}", workers=4, hours=1.0) for i in range(3)]
        outcome = simulate(a_stage(jobs, [ON_DEMAND]), POLICIES[name])
        assert outcome.finished == 3

    def test_orders_nothing_that_is_under_way(self, name):
        outcome = simulate(a_stage([submitted("a", hours=1.0), submitted("b", 0.05, hours=1.0)]), POLICIES[name])
        assert sum(e.what == "order" for e in outcome.log) == 2


def test_the_cheapest_hour_is_not_the_cheapest_end():
    job = submitted("a", hours=1.0, gpus=1, speeds=SPEEDS)
    assert _starts("cheapest-hour", [job], [ON_DEMAND, SMALL]) == {"team/a": "small"}
    assert _starts("stint", [job], [an_offering("od", usd=2.0), SMALL]) == {"team/a": "od"}


def test_first_fit_takes_the_first_pool_and_karpenter_the_cheapest_machine():
    job = submitted("a", hours=1.0, speeds=SPEEDS)
    assert _starts("fifo", [job], [BIG, ON_DEMAND, SPOT]) == {"team/a": "big"}
    assert _starts("karpenter-like", [job], [BIG, ON_DEMAND, SPOT]) == {"team/a": "spot"}


def test_least_waste_grows_the_group_that_is_filled_best():
    job = submitted("a", hours=1.0, gpus=1, speeds=SPEEDS)
    assert _starts("cluster-autoscaler", [job], [BIG, ON_DEMAND, SMALL]) == {"team/a": "small"}


@pytest.mark.parametrize(("name", "nodes"), [("best-fit", 1), ("cluster-autoscaler", 2)])
def test_best_fit_packs_and_kube_scheduler_spreads(name, nodes):
    jobs = [submitted(f"j{i}", i * 0.1, hours=3.0, gpus=2) for i in range(2)]
    outcome = simulate(
        a_stage(jobs, [ON_DEMAND], pools=(a_pool(ON_DEMAND),), standing={ON_DEMAND.id: 2}), POLICIES[name]
    )
    assert len({e.text.split(": ")[1] for e in outcome.log}) == nodes


def _nodes(name, jobs, offerings, **changes):
    """Each job's node, and its offering."""
    outcome = simulate(a_stage(jobs, offerings, **changes), POLICIES[name])
    assert outcome.finished == len(jobs)
    return {e.job: e.text.split(": ")[1] for e in outcome.log if e.what == "place"}


def test_stratus_puts_together_what_ends_together():
    jobs = [
        submitted("short", hours=1.0, gpus=6),
        submitted("long", hours=20.0, gpus=4),
        submitted("later", 0.5, hours=18.0, gpus=2),
    ]
    fixed = {"pools": (a_pool(ON_DEMAND),), "standing": {ON_DEMAND.id: 2}}
    found = _nodes("stratus-like", jobs, [ON_DEMAND], **fixed)
    assert found["team/later"] == found["team/long"]
    packed = _nodes("best-fit", jobs, [ON_DEMAND], **fixed)
    assert packed["team/later"] == packed["team/short"]


def test_stratus_packs_up_before_it_packs_down():
    jobs = [
        submitted("short", hours=1.0, gpus=6),
        submitted("long", hours=20.0, gpus=6),
        submitted("later", 0.5, hours=5.0, gpus=2),
    ]
    found = _nodes("stratus-like", jobs, [ON_DEMAND], pools=(a_pool(ON_DEMAND),), standing={ON_DEMAND.id: 2})
    assert found["team/later"] == found["team/long"]
    assert list(stratus.distance(np.array([0.0, 1.0, 5.0, 20.0]), 5.0)) == [129.0, 67.0, 0.0, 2.0]


def test_gavel_gives_the_fast_machine_to_whom_it_gives_most_for_a_dollar():
    fast = an_offering("fast", usd=16.0, model="H100-SXM", instance_type="p5.48xlarge")
    slow = an_offering("slow", usd=8.0)
    jobs = [
        submitted("a", hours=1.0, speeds={"A100-80GB": 1.0, "H100-SXM": 2.1}),
        submitted("b", hours=1.0, speeds={"A100-80GB": 1.0, "H100-SXM": 4.0}),
    ]
    fixed = {"pools": (a_pool(fast), a_pool(slow)), "standing": {fast.id: 1, slow.id: 1}}
    assert _starts("gavel-like", jobs, [fast, slow], **fixed) == {"team/a": "slow", "team/b": "fast"}
    assert _starts("stint-greedy", jobs[:1], [fast, slow], **fixed) == {"team/a": "fast"}
    assert _starts("gavel-like", jobs[:1], [fast, slow], **fixed) == {"team/a": "fast"}
    dear = replace(fast, usd_per_node_hour=replace(fast.usd_per_node_hour, value=17.0))
    assert _starts("gavel-like", jobs[:1], [dear, slow], **fixed) == {"team/a": "slow"}


def test_gavel_buys_the_type_that_does_most_for_a_dollar_though_another_stands_free():
    bought = an_offering("bought", usd=8.0, model="H100-SXM", instance_type="p5.48xlarge")
    job = submitted("a", hours=1.0, speeds={"A100-80GB": 1.0, "H100-SXM": 2.0})
    fixed = {"pools": (a_pool(ON_DEMAND), a_pool(bought, scaler="kwok", most=2)), "standing": {ON_DEMAND.id: 1}}
    assert _starts("gavel-like", [job], [ON_DEMAND, bought], **fixed) == {"team/a": "bought"}
    assert _starts("fifo", [job], [ON_DEMAND, bought], **fixed) == {"team/a": "od"}


def test_eva_opens_a_big_machine_once_those_on_it_would_pay_more_for_their_own():
    big, small = an_offering("big", usd=10.0), an_offering("small", usd=6.0, gpus=4)
    jobs = [submitted(n, hours=1.0, gpus=4) for n in "ab"]
    assert _starts("eva-like", jobs[:1], [big, small]) == {"team/a": "small"}
    found = _nodes("eva-like", jobs, [big, small])
    assert len(set(found.values())) == 1
    assert _starts("eva-like", jobs, [big, small]) == {"team/a": "big", "team/b": "big"}
    assert _starts("cheapest-hour", jobs, [big, small]) == {"team/a": "small", "team/b": "small"}
    dear = replace(big, usd_per_node_hour=replace(big.usd_per_node_hour, value=12.5))
    assert _starts("eva-like", jobs, [dear, small]) == {"team/a": "small", "team/b": "small"}


def test_eva_pays_more_an_hour_where_more_is_done_in_it():
    big, small = an_offering("big", usd=30.0, model="H100-SXM"), an_offering("small", usd=6.0, gpus=4)
    for speed, chosen in ((2.0, "small"), (3.0, "big")):
        jobs = [submitted(n, hours=1.0, gpus=4, speeds={"A100-80GB": 1.0, "H100-SXM": speed}) for n in "ab"]
        assert set(_starts("eva-like", jobs, [big, small]).values()) == {chosen}


def test_spot_is_for_those_who_allow_it():
    job = submitted("a", hours=1.0, capacity_types=(CapacityType.ON_DEMAND,))
    for name in POLICIES:
        assert _starts(name, [job], [ON_DEMAND, SPOT]) == {"team/a": "od"}
