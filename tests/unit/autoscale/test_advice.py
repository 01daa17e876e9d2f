from __future__ import annotations

from dataclasses import replace

import pytest

from stint.autoscale.advice import advise
from stint.model.cluster import Utilisation
from stint.model.job import Job
from stint.model.market import Offering, Slices
from stint.model.resources import Resources
from stint.testing.builders import a_job, a_node, an_offering, running_on

A100 = an_offering("a100", usd=8.0)
L40S = an_offering("l40s", usd=4.0, model="L40S", memory_gib=48.0, instance_type="g6e")
QUARTER = an_offering(
    "shared",
    usd=8.0,
    instance_type="p4d-shared",
    per_node=Resources(gpus=32, cpu=96, memory_gib=1000, pods=110),
    slices=Slices(name="4-shared", resource="nvidia.com/gpu", per_gpu=4, fraction=0.25, memory_gib=20.0),
)


def a_running_job(workers: int = 1, gpus: int = 8, usd_per_hour: float = 8.0) -> Job:
    job = a_job(workers=workers, gpus=gpus, speeds={"A100-80GB": 1.0, "L40S": 0.5})
    placed = running_on(job, *[a_node(f"n{i}", A100) for i in range(workers)], offering=A100)
    assert placed.assignment is not None
    return replace(placed, assignment=replace(placed.assignment, usd_per_hour=usd_per_hour))


def used(job: Job, ratio: float | None, *, idle: int | None = 0, gpus: int = 8, memory: float | None = 10.0, bare=0):
    return Utilisation(
        job=job.id,
        gpu_ratio=ratio,
        watts=None,
        idle_gpus=idle,
        gpus=gpus,
        processless_gpus=bare,
        memory_gib=memory,
    )


def told(job: Job, measured: Utilisation | None, *offerings: Offering) -> dict[str, float]:
    found = advise(job, measured, {o.id: o for o in (A100, *offerings)})
    assert all(w.why for w in found)
    return {w.what: pytest.approx(w.usd_per_hour) for w in found}


def test_says_nothing_of_what_is_not_known_busy_or_not_running():
    job = a_running_job()
    assert told(job, None, L40S) == {}
    assert told(job, used(job, None), L40S) == {}
    assert told(job, used(job, 0.9), L40S) == {}
    assert job.assignment is not None
    starting = replace(job, assignment=replace(job.assignment, running=False))
    assert told(starting, used(job, 0.0, idle=8)) == {}


def test_says_nothing_where_only_a_part_of_its_gpus_is_measured():
    job = a_running_job()
    assert told(job, used(job, 0.0, idle=4, gpus=4), L40S) == {}


def test_gpus_that_do_nothing_cost_all_of_it():
    job = a_running_job()
    assert told(job, used(job, 0.0, idle=8, bare=8), L40S) == {"Idle": 8.0}
    (waste,) = advise(job, used(job, 0.0, idle=8, bare=8), {A100.id: A100})
    assert "no process has 8 of them open" in waste.why


def test_fewer_workers_where_whole_ones_stand_still():
    job = a_running_job(workers=4, usd_per_hour=32.0)
    assert told(job, used(job, 0.45, idle=16, gpus=32)) == {"FewerWorkers": 16.0}


def test_fewer_workers_where_all_wait_for_something_and_never_less_than_one():
    job = a_running_job(workers=4, usd_per_hour=32.0)
    assert told(job, used(job, 0.3, gpus=32)) == {"FewerWorkers": 16.0}  # 4 x 0.3 x 1.25 = 1.5: two
    assert told(job, used(job, 0.06, gpus=32)) == {"FewerWorkers": 24.0}
    one = a_running_job(workers=1)
    assert told(one, used(one, 0.1)) == {}


def test_a_smaller_model_where_it_is_fast_enough_and_has_the_memory():
    job = a_running_job()
    assert told(job, used(job, 0.3), L40S) == {"SmallerModel": 4.0}
    assert told(job, used(job, 0.45), L40S) == {}, "half the speed is not enough for 45 % and a margin"
    assert told(job, used(job, 0.3, memory=40.0), L40S) == {}, "48 GiB leave no room above 40"
    assert told(job, used(job, 0.3, memory=None), L40S) == {}
    dearer = replace(L40S, usd_per_node_hour=replace(L40S.usd_per_node_hour, value=9.0))  # type: ignore[type-var]
    assert told(job, used(job, 0.3), dearer) == {}


def test_a_part_of_a_gpu_for_who_has_a_whole_one():
    job = a_running_job(gpus=1, usd_per_hour=1.0)
    assert told(job, used(job, 0.15, gpus=1), QUARTER) == {"Fraction": 0.75}
    assert told(job, used(job, 0.25, gpus=1), QUARTER) == {}
    assert told(job, used(job, 0.15, gpus=1, memory=18.0), QUARTER) == {}
    eight = a_running_job(gpus=8)
    assert told(eight, used(eight, 0.15), QUARTER) == {}
