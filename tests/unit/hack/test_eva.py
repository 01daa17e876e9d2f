"""The benchmark beside Eva, on a few jobs made up here."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest

from hack.bench import eva
from hack.bench import eva_peer as peer
from hack.bench.eva_world import ROUND_S, Place, Speeds, Type, Work, World

SMALL = Type(name="small", capacity=(1.0, 4.0, 16.0), usd_per_hour=1.0, given_s=10, boot_s=90)
LARGE = Type(name="large", capacity=(2.0, 8.0, 32.0), usd_per_hour=1.5, given_s=10, boot_s=90)
FAIR = Speeds({("a", "a"): 0.9, ("a", "b"): 0.5, ("b", "a"): 0.5})


def work(name: str, *, workload: str = "a", at: int = 0, hours: float = 2.0, gpus: float = 1.0) -> Work:
    return Work(
        name=name,
        variant=workload,
        workload=workload,
        arrives_s=at,
        need=(gpus, 2.0, 4.0),
        iterations=3600.0 * hours,
        per_s=1.0,
        fetch_s=5,
        build_s=10,
        start_s=20,
        stop_s=1,
        upload_s=4,
    )


class Says:
    """Plans made beforehand, one a round; the last one stays."""

    def __init__(self, *plans: Sequence[Place]) -> None:
        self.plans = list(plans)

    def plan(self, world: World) -> list[Place]:
        now = self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]
        return [p for p in now if set(p.tasks) <= set(world.tasks)]


def test_a_node_is_paid_from_when_it_is_given_until_the_round_after_its_last_task():
    ended = World([work("0", hours=0.5)], [SMALL], FAIR).run(peer.NoPacking())
    assert ended.end_s == (100 + 15 + 20 + 1800,)
    gone_s = (ended.end_s[0] // ROUND_S + 1) * ROUND_S + 1
    assert ended.usd == pytest.approx((gone_s - 10) / 3600.0)
    assert (ended.instances, ended.migrations) == (1, 0)


def test_those_on_one_node_slow_each_other_down():
    together = [Place(None, 0, (0, 1))], [Place(0, 0, (0, 1))]
    ended = World([work("0"), work("1")], [LARGE], FAIR).run(Says(*together))
    second = 100 + 5 + 20 + 8000  # it finds the image that the first one built
    first = second + 7200 - round(0.9 * (second - 135))
    assert ended.end_s == (first, second)
    assert ended.lost_s / ended.work_s == pytest.approx(0.1, abs=0.001)


def test_one_that_moves_keeps_what_it_did_and_pauses_until_its_new_node_is_up():
    moves = [Place(None, 0, (0,))], [Place(None, 0, (0,))], [Place(1, 0, (0,))]
    ended = World([work("0", hours=0.5)], [SMALL], FAIR).run(Says(*moves))
    ran_s = ROUND_S + 1 - 135
    assert ended.end_s == (ROUND_S + 100 + 15 + 20 + 1800 - ran_s,)
    assert (ended.instances, ended.migrations) == (2, 1)


@pytest.mark.parametrize(
    ("plans", "what"),
    [
        (([],), "every task on one node"),
        (([Place(None, 0, (0,)), Place(None, 0, (0,))],), "every task on one node"),
        (([Place(7, 0, (0,))],), "node 7 is not there"),
        (([Place(None, 1, (0,))],), "does not hold"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plans: tuple[list[Place], ...], what: str):
    tiny = Type(name="tiny", capacity=(0.0, 1.0, 1.0), usd_per_hour=0.1, given_s=1, boot_s=1)
    with pytest.raises(ValueError, match=what):
        World([work("0")], [SMALL, tiny], FAIR).run(Says(*plans))


@pytest.mark.parametrize("policy", [peer.Eva, eva.Stint])
def test_two_that_bear_each_other_share_a_node(policy: type):
    jobs = [work("0"), work("1")]
    ended = World(jobs, [SMALL, LARGE], FAIR).run(policy())
    assert ended.instances == 1
    assert ended.usd < World(jobs, [SMALL, LARGE], FAIR).run(peer.NoPacking()).usd


def test_ours_knows_beforehand_who_does_not_bear_whom_and_eva_finds_out():
    jobs = [work("0"), work("1", workload="b")]
    ours = World(jobs, [SMALL, LARGE], FAIR).run(eva.Stint())
    assert (ours.instances, ours.migrations, ours.lost_s) == (2, 0, 0.0)
    for policy in (peer.Eva(), eva.Stint(learns=True)):
        learns = World([*jobs, work("2", at=2 * ROUND_S, hours=0.1)], [SMALL, LARGE], FAIR).run(policy)
        assert learns.migrations > 0
        assert learns.lost_s > 0


def test_a_task_left_alone_on_a_large_node_goes_to_a_small_one_where_that_pays():
    jobs = [work("0", hours=1.0), work("1", hours=20.0)]
    ended = World(jobs, [SMALL, LARGE], FAIR).run(eva.Stint())
    assert (ended.instances, ended.migrations) == (2, 1)
    assert ended.usd < 1.5 * 1.2 + 20.0


def test_nobody_does_the_work_for_less_than_the_limit():
    jobs = [work(str(i), workload="ab"[i % 2], at=600 * i, hours=1.0 + i) for i in range(6)]
    limit = eva.limit_usd(jobs, [SMALL, LARGE], FAIR)
    assert limit == pytest.approx(0.75 / 0.9 * (1.0 + 3.0 + 5.0) + 0.75 / 0.95 * (2.0 + 4.0 + 6.0))
    for policy in eva.POLICIES.values():
        assert World(jobs, [SMALL, LARGE], FAIR).run(policy()).usd > limit


def test_a_row_a_policy_of_any_files_of_that_layout(tmp_path: Path):
    folder = tmp_path / "eva"
    folder.mkdir()
    (folder / "instance_types.csv").write_text(
        "instance_type,family,gpu,cpu,vcpu,mem_gb,usd_per_hour,instantiate_delay_s,run_worker_delay_s,worker_register_delay_s\n"
        "small,s,1,4,8,16,1.0,10,40,50\nlarge,s,2,8,16,32,1.5,10,40,50\n"
    )
    (folder / "colocation_throughput.csv").write_text("workload,colocated_with,relative_throughput\na,a,0.9\na,b,\n")
    (folder / "jobs.csv").write_text(
        "job_id,task_id,name,workload,arrival_s,duration_s,gpu,cpu,mem_gb,full_throughput,total_iters,init_delay_s,"
        "fetch_delay_s,build_image_delay_s,upload_delay_s,kill_delay_s\n"
        "1,1,a[0],a,700,7200,1,2,4,2.0,14400,20,5,10,4,1\n0,0,a[0],a,0,7200,1,2,4,2.0,14400,20,5,10,4,1\n"
    )
    rows = {r["policy"]: r for r in eva.rows(argparse.Namespace(traces=tmp_path))}
    assert rows.keys() == set(eva.POLICIES)
    assert rows["no-packing"]["total_usd"] == pytest.approx(4.0, rel=0.1)
    assert rows["stint"]["total_usd"] <= rows["eva"]["total_usd"] < rows["no-packing"]["total_usd"]
    assert rows["stint"]["limit_usd"] == pytest.approx(0.75 / 0.9 * 4.0, abs=0.01)
    with pytest.raises(SystemExit, match="--traces DIR"):
        eva.rows(argparse.Namespace(traces=None))
