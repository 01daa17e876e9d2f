from __future__ import annotations

import pytest

from stint.model.job import job_id, split_job_id
from stint.model.market import PoolName, offering_id
from stint.model.offering import CapacityType
from stint.model.resources import AXES, Resources
from stint.testing.builders import a_job, a_node, an_offering, running_on


def test_keys_come_apart_as_they_were_put_together():
    assert split_job_id(job_id("team", "llama")) == ("team", "llama")
    assert offering_id(PoolName("p"), "x", "", CapacityType.SPOT) == "p/x/-/spot"


def test_resources_are_added_axis_by_axis_and_laid_out_in_their_order():
    total = Resources(gpus=1, cpu=2.0, memory_gib=3.0, pods=4) + Resources(gpus=10, cpu=20.0, memory_gib=30.0, pods=40)
    assert dict(zip(AXES, total.as_row(), strict=True)) == {"gpus": 11, "cpu": 22, "memory_gib": 33, "pods": 44}


@pytest.mark.parametrize("change", [{"ready": False}, {"schedulable": False}, {"interrupted": True}])
def test_a_node_is_usable_when_nothing_speaks_against_it(change):
    assert a_node("n", an_offering()).usable
    assert not a_node("n", an_offering(), **change).usable


def test_a_decision_is_owed_to_jobs_that_have_no_place_and_are_not_suspended():
    offering = an_offering()
    assert a_job().waiting
    assert not a_job(suspended=True).waiting
    assert not running_on(a_job(), a_node("n", offering), offering=offering).waiting
