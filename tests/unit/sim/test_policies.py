"""Every policy, under the same rules."""

import pytest

from stint.model.offering import CapacityType
from stint.sim.loop import simulate
from stint.sim.policies import POLICIES
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


def test_spot_is_for_those_who_allow_it():
    job = submitted("a", hours=1.0, capacity_types=(CapacityType.ON_DEMAND,))
    for name in POLICIES:
        assert _starts(name, [job], [ON_DEMAND, SPOT]) == {"team/a": "od"}
