"""What is decided, told as stories. The builders' noon: A100 nodes of eight GPUs at eight dollars an hour."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from stint.decide import decide
from stint.errors import UnsoundAssignmentError
from stint.model.cluster import HOSTNAME, ZONE
from stint.model.constraints import Neighbour, PodConstraints, PodTerm, Requirement
from stint.model.job import Checkpoint, Data, Job, Objective, OnExceed, OnMiss, Toleration, job_id
from stint.model.market import EgressRate, Slices, Taint
from stint.model.offering import CapacityType
from stint.model.plan import Hold, Placement, Plan, Reason
from stint.model.resources import Resources
from stint.model.situation import Rates, Settings
from stint.placement.solver import Assignment, Choice
from stint.testing.builders import NOW, a_figure, a_job, a_node, a_pool, a_situation, an_offering, running_on

A100 = an_offering()
H100 = an_offering("h100", model="H100-SXM", usd=24.0, instance_type="p5.48xlarge")
SPOT = an_offering("spot", usd=2.0, capacity=CapacityType.SPOT, interruptions_per_hour=0.02)
BOTH = {"A100-80GB": 1.0, "H100-SXM": 2.0}
HOURLY = Checkpoint(every=timedelta(hours=1), takes=timedelta(minutes=1), restart=timedelta(minutes=5))


def placed(plan: Plan, name: str = "llama") -> Placement:
    return next(p for p in plan.placements if p.job == job_id("team", name))


def held(plan: Plan, name: str = "llama") -> Hold:
    return next(h for h in plan.holds if h.job == job_id("team", name))


def test_a_gang_waits_whole_when_only_part_of_it_fits():
    plan = decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[a_job(workers=2)]))
    assert plan.placements == ()
    assert held(plan).reason is Reason.NOT_ENOUGH_GPUS
    assert "needs 16 A100-80GB, 8 free" in held(plan).message


def test_the_least_dollars_to_finish_win_not_the_least_per_hour():
    fast = replace(H100, usd_per_node_hour=a_figure(12.0))  # half as dear again, twice as fast
    nodes = [a_node("slow", A100), a_node("fast", fast)]
    plan = decide(a_situation(offerings=[A100, fast], nodes=nodes, jobs=[a_job(speeds=BOTH)]))
    assert placed(plan).nodes == ("fast",)
    runner_up = placed(plan).explanation.runner_up
    assert runner_up is not None
    assert runner_up.usd_per_hour < placed(plan).chosen.usd_per_hour
    assert runner_up.cost.usd > placed(plan).chosen.cost.usd


def test_reserved_capacity_is_used_first_because_it_is_paid_for():
    reserved = an_offering("mine", usd=8.0, capacity=CapacityType.RESERVED)
    nodes = [a_node("a", A100), a_node("z", reserved)]
    plan = decide(a_situation(offerings=[A100, reserved], nodes=nodes, jobs=[a_job()]))
    assert placed(plan).nodes == ("z",)
    assert placed(plan).chosen.cost.hardware_usd == 0


@pytest.mark.parametrize(("worth", "reason"), [(0.5, Reason.WAITING_IS_CHEAPER), (500.0, Reason.NODES_ON_THE_WAY)])
def test_what_an_hour_is_worth_decides_between_waiting_and_buying(worth, reason):
    """The cheap node falls free in three hours; a dear one can be bought at once."""
    busy = a_node("n", A100, used_gpus=8)
    runs = running_on(a_job("other"), busy, offering=A100, hours_left=3)
    waits = a_job(speeds=BOTH, objective=Objective(usd_per_hour=worth))
    pools = [a_pool(A100), a_pool(H100, scaler="Kwok", most=2)]
    plan = decide(a_situation(offerings=[A100, H100], nodes=[busy], jobs=[runs, waits], pools=pools))
    assert held(plan).reason is reason
    assert "USD to finish" in held(plan).message
    assert [r.to_nodes for r in plan.resizes] == ([1] if worth > 1 else [])


def test_waiting_is_called_cheaper_when_something_dearer_is_free_now():
    busy, free = a_node("n", A100, used_gpus=8), a_node("dear", H100)
    dear = replace(H100, usd_per_node_hour=a_figure(100.0))
    runs = running_on(a_job("other"), busy, offering=A100, hours_left=1)
    plan = decide(a_situation(offerings=[A100, dear], nodes=[busy, free], jobs=[runs, a_job(speeds=BOTH)]))
    assert held(plan).reason is Reason.WAITING_IS_CHEAPER
    assert "would start it at once" in held(plan).message


def test_a_pool_grows_for_a_whole_gang_or_not_at_all():
    def grow(most: int) -> Plan:
        return decide(
            a_situation(offerings=[A100], pools=[a_pool(A100, scaler="Kwok", most=most)], jobs=[a_job(workers=3)])
        )

    (resize,) = grow(3).resizes
    assert (resize.from_nodes, resize.to_nodes, resize.for_jobs) == (0, 3, ("team/llama",))
    assert resize.usd_per_hour == pytest.approx(24.0)
    assert grow(2).resizes == ()
    assert held(grow(2)).reason is Reason.POOL_LIMIT


def test_nodes_under_way_are_waited_for_and_not_ordered_again():
    coming = [a_node(f"n{i}", A100, ready=False, ready_at=NOW + timedelta(minutes=5)) for i in range(2)]
    pools = [a_pool(A100, scaler="Kwok", most=9)]
    plan = decide(a_situation(offerings=[A100], nodes=coming, pools=pools, jobs=[a_job(workers=2)]))
    assert plan.resizes == ()
    assert held(plan).reason is Reason.NODES_ON_THE_WAY


def test_small_jobs_share_the_node_that_is_bought():
    jobs = [a_job(f"j{i}", gpus=2) for i in range(4)]
    plan = decide(a_situation(offerings=[A100], pools=[a_pool(A100, scaler="Kwok", most=9)], jobs=jobs))
    (resize,) = plan.resizes
    assert resize.to_nodes == 1


def test_a_pool_that_takes_only_advice_gets_advice_in_money():
    pool = a_pool(A100, scaler="Kwok", most=4, advise_only=True)
    plan = decide(a_situation(offerings=[A100], pools=[pool], jobs=[a_job(workers=2)]))
    (resize,) = plan.resizes
    assert resize.advise_only
    assert held(plan).reason is Reason.ADVICE_ONLY
    assert "2 more p4de.24xlarge nodes in pool a100 would be enough, for 16.00 USD/h" in held(plan).message


def test_spot_is_taken_while_the_deadline_allows_and_on_demand_when_it_does_not():
    risky = replace(SPOT, interruptions_per_hour=a_figure(0.2))
    nodes = [a_node("od", A100), a_node("spot", risky)]

    def choose(deadline_hours: float) -> str:
        job = a_job(deadline_hours=deadline_hours, checkpoint=HOURLY)
        return placed(decide(a_situation(offerings=[A100, risky], nodes=nodes, jobs=[job]))).nodes[0]

    assert choose(24) == "spot"
    assert choose(10.6) == "od"  # ten hours of work; interruptions would stretch them by more than half an hour


def test_a_job_that_cannot_be_in_time_runs_late_or_is_held_as_it_wishes():
    def late(wish: OnMiss) -> Plan:
        job = a_job(deadline_hours=5, on_deadline_miss=wish)
        return decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[job]))

    assert placed(late(OnMiss.RUN)).late_by_hours == pytest.approx(5, abs=0.5)
    assert held(late(OnMiss.HOLD)).reason is Reason.MISSES_DEADLINE
    assert "h after its deadline at the earliest" in held(late(OnMiss.HOLD)).message


def test_a_budget_binds():
    job = a_job(budget_usd=50.0)  # ten hours at eight dollars
    plan = decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[job]))
    assert held(plan).reason is Reason.OVER_BUDGET
    assert "the budget has 50.00 USD left" in held(plan).message


def test_what_was_spent_counts_against_the_budget():
    job = a_job(budget_usd=100.0, spent_usd=30.0)
    plan = decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[job]))
    assert held(plan).reason is Reason.OVER_BUDGET


def test_data_that_may_not_leave_stays_and_other_data_costs_its_transfer():
    away = an_offering("away", usd=7.9, zone="us-west-2a")
    nodes = [a_node("home", A100), a_node("away", away)]
    egress = EgressRate(
        from_provider="aws",
        from_region="us-east-1",
        to_provider="aws",
        to_region="us-west-2",
        usd_per_gb=a_figure(0.02),
    )
    home = Data(gib=1000, provider="aws", region="us-east-1")

    def choose(data: Data) -> Placement:
        jobs, rates = [a_job(data=data)], Rates(egress=(egress,))
        return placed(decide(a_situation(offerings=[A100, away], nodes=nodes, jobs=jobs, rates=rates)))

    assert choose(Data()).nodes == ("away",)
    assert choose(home).nodes == ("home",)  # a dollar saved, twenty spent on moving
    (rejection,) = choose(replace(home, may_leave_region=False)).explanation.rejected
    assert rejection.reason is Reason.DATA_MUST_STAY


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (a_job(gpu_models=("H100-SXM",), speeds=BOTH), Reason.MODEL_NOT_ALLOWED),
        (a_job(speeds={"H100-SXM": 1.0}), Reason.NO_SPEED_FOR_MODEL),
        (a_job(capacity_types=(CapacityType.SPOT,)), Reason.CAPACITY_TYPE_NOT_ALLOWED),
        (a_job(gpu_memory_gib=141), Reason.GPU_MEMORY_TOO_SMALL),
        (a_job(gpus=16), Reason.WORKER_EXCEEDS_NODE),
        (a_job(per_worker=Resources(gpus=1, cpu=500, pods=1)), Reason.WORKER_EXCEEDS_NODE),
        (a_job(node_selector={"disk": "nvme"}), Reason.NODE_SELECTOR_MISMATCH),
        (a_job(data=Data(gib=1, provider="gcp", region="x")), Reason.NO_PRICE),
        (a_job(data=Data(scratch_gib=1)), None),
    ],
    ids=lambda value: getattr(value, "value", ""),
)
def test_the_first_constraint_in_the_way_is_named(job, reason):
    plan = decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[job]))
    assert (held(plan).reason if plan.holds else None) is reason


def test_a_node_that_is_selected_and_too_small_is_named_before_those_that_are_not_selected():
    big = an_offering("big", usd=8.0, zone="us-west-2a")
    small = an_offering("small", usd=8.0)
    nodes = [a_node("big", big, labels={"rack": "1"})]
    nodes += [
        a_node("small", small, labels={"rack": "2"}, allocatable=Resources(gpus=4, cpu=8, memory_gib=64, pods=20))
    ]
    job = a_job(node_selector={"rack": "2"})
    hold = held(decide(a_situation(offerings=[big, small], nodes=nodes, jobs=[job])))
    assert (hold.reason, hold.message.split("/")[0]) == (Reason.WORKER_EXCEEDS_NODE, "small")


def test_a_gang_that_waits_for_others_to_end_is_told_what_is_wrong_with_the_other_nodes():
    sick = a_node("sick", A100, taints=(Taint(key="node.kubernetes.io/pid-pressure", value=""),))
    busy = a_node("busy", A100, used_gpus=8)
    runs = running_on(a_job("runs"), busy, offering=A100, hours_left=3)
    plan = decide(a_situation(offerings=[A100], nodes=[busy, sick], jobs=[runs, a_job()]))
    assert held(plan).reason is Reason.NOT_ENOUGH_GPUS
    assert "besides, sick has the taint node.kubernetes.io/pid-pressure:NoSchedule" in held(plan).message


@pytest.mark.parametrize(
    ("key", "beside", "bought"),
    [(HOSTNAME, "", 0), (ZONE, "", 0), (HOSTNAME, "us-east-1a", 0), (ZONE, "us-east-1b", 0), (ZONE, "us-east-1a", 1)],
)
def test_no_node_is_bought_where_the_pods_that_a_gang_asks_for_would_not_be(key, beside, bought):
    cache = Requirement(key="app", operator="In", values=("cache",))
    near = PodConstraints(affinity=(PodTerm(topology_key=key, selector=(cache,), namespaces=None),))
    there = Neighbour(node="n", namespace="x", labels=(("app", "cache"),), domains=((ZONE, beside), (HOSTNAME, "n")))
    situation = a_situation(
        offerings=[A100], pools=[a_pool(A100, scaler="Kwok", most=9)], jobs=[a_job(constraints=near)]
    )
    plan = decide(replace(situation, neighbours=(there,) if beside else ()))
    assert sum(r.to_nodes - r.from_nodes for r in plan.resizes) == bought
    if not bought:
        assert held(plan).reason is Reason.BESIDE_OTHERS


def test_no_node_is_bought_in_a_zone_that_other_pods_keep_a_gang_out_of():
    term = PodTerm(topology_key=ZONE, selector=(), namespaces=None)
    shy = Neighbour(node="n", namespace="x", domains=((ZONE, A100.zone),), anti_affinity=(term,))
    situation = a_situation(offerings=[A100], pools=[a_pool(A100, scaler="Kwok", most=9)], jobs=[a_job()])
    assert decide(situation).resizes
    plan = decide(replace(situation, neighbours=(shy,)))
    assert not plan.resizes
    assert held(plan).reason is Reason.BESIDE_OTHERS


def test_taints_keep_away_those_who_do_not_tolerate_them():
    gpu = Taint(key="nvidia.com/gpu", value="present")
    tainted = replace(A100, taints=(gpu,))
    nodes = [a_node("n", tainted, taints=(gpu,))]
    keeps = Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")
    assert (
        held(decide(a_situation(offerings=[tainted], nodes=nodes, jobs=[a_job()]))).reason is Reason.TAINT_NOT_TOLERATED
    )
    assert placed(decide(a_situation(offerings=[tainted], nodes=nodes, jobs=[a_job(tolerations=(keeps,))])))


def test_an_offering_without_a_price_is_not_taken_for_free():
    free = replace(A100, usd_per_node_hour=None)
    plan = decide(a_situation(offerings=[free], nodes=[a_node("n", free)], jobs=[a_job()]))
    assert held(plan).reason is Reason.NO_PRICE
    assert "add it to a PriceBook" in held(plan).message


def test_higher_priority_is_served_first_and_then_less_slack():
    nodes = [a_node("n", A100)]
    jobs = [a_job("calm"), a_job("urgent", deadline_hours=11)]
    plan = decide(a_situation(offerings=[A100], nodes=nodes, jobs=jobs))
    assert placed(plan, "urgent").nodes == ("n",)
    plan = decide(a_situation(offerings=[A100], nodes=nodes, jobs=[replace(jobs[0], priority=1), jobs[1]]))
    assert placed(plan, "calm").nodes == ("n",)


def test_an_elastic_job_gets_the_size_that_pays():
    quick = a_job(workers=1, min_workers=1, max_workers=4, objective=Objective(usd_per_hour=1000.0))
    nodes = [a_node(f"n{i}", A100) for i in range(4)]
    situation = a_situation(offerings=[A100], nodes=nodes, jobs=[quick])
    assert placed(decide(situation)).chosen.workers == 4
    patient = replace(quick, objective=Objective(usd_per_hour=0.0), work=replace(quick.work, scaling_exponent=0.5))
    assert placed(decide(replace(situation, jobs=(patient,)))).chosen.workers == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"ready": False}, Reason.NODE_LOST), ({"interrupted": True}, Reason.NODE_INTERRUPTED), (None, Reason.NODE_LOST)],
)
def test_a_gang_whose_node_fails_is_requeued_whole(change, reason):
    nodes = [a_node("a", A100), a_node("b", A100)]
    job = running_on(a_job(workers=2), *nodes, offering=A100, hours_left=5)
    there = [nodes[0]] if change is None else [nodes[0], replace(nodes[1], **change)]
    (requeue,) = decide(a_situation(offerings=[A100], nodes=there, jobs=[job])).requeues
    assert requeue.reason is reason
    assert "b" in requeue.message


def test_a_cordoned_node_is_left_alone_once_the_gang_runs():
    node = a_node("a", A100, schedulable=False)
    job = running_on(a_job(), node, offering=A100, hours_left=5)
    assert decide(a_situation(offerings=[A100], nodes=[node], jobs=[job])).requeues == ()
    assert job.assignment is not None
    starting = replace(job, assignment=replace(job.assignment, running=False))
    assert len(decide(a_situation(offerings=[A100], nodes=[node], jobs=[starting])).requeues) == 1


@pytest.mark.parametrize(("wish", "requeued"), [(OnExceed.WARN, 0), (OnExceed.CHECKPOINT_AND_STOP, 1)])
def test_a_spent_budget_stops_a_running_job_if_it_is_meant_to(wish, requeued):
    node = a_node("a", A100, used_gpus=8)
    job = running_on(a_job(budget_usd=10.0, spent_usd=10.5, on_exceed=wish), node, offering=A100)
    assert len(decide(a_situation(offerings=[A100], nodes=[node], jobs=[job])).requeues) == requeued


def test_a_running_job_is_priced_afresh():
    node = a_node("a", A100, used_gpus=8)
    job = running_on(a_job(hours=10), node, offering=A100)
    half = replace(job, work=replace(job.work, units_done=job.work.units / 2))
    (stay,) = decide(a_situation(offerings=[A100], nodes=[node], jobs=[half])).stays
    assert stay.cost_to_finish_usd == pytest.approx(40.0)
    assert stay.finish == NOW + timedelta(hours=5)


def test_empty_nodes_are_given_back_after_a_while_but_not_below_the_least():
    def back(minutes: float, least: int = 0) -> Plan:
        nodes = [a_node(n, A100, removable=True, empty_since=NOW - timedelta(minutes=minutes)) for n in ("a", "b")]
        pool = a_pool(A100, scaler="Kwok", most=4, min_nodes=least, give_back_after_seconds=600)
        return decide(a_situation(offerings=[A100], nodes=nodes, pools=[pool]))

    assert back(9).resizes == ()
    assert back(11).resizes[0].give_back == ("a", "b")
    assert back(11).resizes[0].usd_per_hour == pytest.approx(-16.0)
    assert back(11, least=1).resizes[0].give_back == ("a",)


def test_nodes_that_somebody_is_promised_are_kept():
    node = a_node("a", A100, removable=True, empty_since=NOW - timedelta(hours=1))
    pool = a_pool(A100, scaler="Kwok", most=4)
    plan = decide(a_situation(offerings=[A100], nodes=[node], pools=[pool], jobs=[a_job()]))
    assert placed(plan).nodes == ("a",)
    assert plan.resizes == ()


def test_a_job_that_backs_off_does_not_compete():
    job = a_job(not_before=NOW + timedelta(seconds=30))
    plan = decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[job]))
    assert held(plan).reason is Reason.BACKING_OFF
    assert "30 s" in held(plan).message


def test_blamed_nodes_are_avoided():
    nodes = [a_node("bad", A100), a_node("good", A100)]
    plan = decide(a_situation(offerings=[A100], nodes=nodes, jobs=[a_job(avoid=(nodes[0].name,))]))
    assert placed(plan).nodes == ("good",)


def test_suspended_jobs_get_no_answer():
    plan = decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[a_job(suspended=True)]))
    assert (plan.placements, plan.holds) == ((), ())


def test_an_unsound_answer_is_never_acted_on():
    class Liar:
        name = "liar"

        def solve(self, problem, *, budget_steps, rng):
            del problem, budget_steps, rng
            return Assignment(choices=(Choice(column=0, start_hours=0.0, nodes=()),))

    with pytest.raises(UnsoundAssignmentError, match="nodes for"):
        decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[a_job()]), solver=Liar())


@pytest.mark.parametrize("solver", ["portfolio", "greedy", "annealing", "exact"])
def test_the_solver_is_chosen_by_name(solver):
    situation = a_situation(
        offerings=[A100], nodes=[a_node("n", A100)], jobs=[a_job()], settings=Settings(solver=solver)
    )
    certificate = decide(situation).certificate
    assert certificate is not None
    assert certificate.solver == solver
    assert certificate.gap_ratio == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("solver", "told"), [("auto", "portfolio has taken the place of auto"), ("magic", "greedy")])
def test_a_solver_that_there_is_not_is_told_with_what_to_do(solver, told):
    with pytest.raises(KeyError, match=f"solver '{solver}' must be one of annealing, exact, .*{told}"):
        decide(a_situation(offerings=[A100], settings=Settings(solver=solver)))


@pytest.mark.parametrize(("usd", "reason"), [(8.5, Reason.NODES_ON_THE_WAY), (40.0, Reason.WAITING_IS_CHEAPER)])
def test_what_a_node_costs_decides_between_waiting_and_buying(usd, reason):
    """Five hours of waiting are worth five dollars; ten hours at fifty cents more are as much."""
    cloud = an_offering("cloud", usd=usd)
    busy = a_node("n", A100, used_gpus=8)
    runs = running_on(a_job("other"), busy, offering=A100, hours_left=7)
    pools = [a_pool(A100), a_pool(cloud, scaler="Kwok", most=1)]
    plan = decide(a_situation(offerings=[A100, cloud], nodes=[busy], pools=pools, jobs=[runs, a_job()]))
    assert held(plan).reason is reason


def test_a_deadline_makes_the_faster_model_worth_its_price():
    nodes = [a_node("slow", A100), a_node("fast", H100)]

    def choose(deadline_hours: float) -> str:
        job = a_job(speeds=BOTH, deadline_hours=deadline_hours)
        return placed(decide(a_situation(offerings=[A100, H100], nodes=nodes, jobs=[job]))).nodes[0]

    assert choose(11) == "slow"  # ten hours for 80 dollars
    assert choose(9) == "fast"  # five hours for 120


def test_a_budget_makes_the_cheaper_model_worth_its_wait():
    nodes = [a_node("slow", A100), a_node("fast", H100)]
    hurried = a_job(speeds=BOTH, objective=Objective(usd_per_hour=100.0))
    situation = a_situation(offerings=[A100, H100], nodes=nodes, jobs=[hurried])
    assert placed(decide(situation)).nodes == ("fast",)
    poor = decide(replace(situation, jobs=(replace(hurried, budget_usd=100.0),)))
    assert placed(poor).nodes == ("slow",)
    (rejection,) = placed(poor).explanation.rejected
    assert (rejection.reason, rejection.offering) == (Reason.OVER_BUDGET, H100.id)


def test_everything_that_has_a_rate_is_in_the_price():
    offering = replace(A100, usd_per_kwh=a_figure(0.5), pue=a_figure(1.25), g_co2_per_kwh=a_figure(400.0))
    rates = Rates(
        licence_usd_per_gpu_hour={"nim": a_figure(0.1)},
        labour_usd_per_job_hour=a_figure(2.0),
        carbon_usd_per_tonne=a_figure(100.0),
    )
    job = a_job(licences=("nim",))
    cost = placed(
        decide(a_situation(offerings=[offering], nodes=[a_node("n", offering)], jobs=[job], rates=rates))
    ).chosen.cost
    kwh = 3.2 * 1.25 * 10  # ten hours of 3.2 kW; half a minute of starting is within the tolerance
    near = {"rel": 0.002}
    assert cost.hardware_usd == pytest.approx(80.0)
    assert cost.energy_usd == pytest.approx(kwh * 0.5, **near)
    assert cost.licence_usd == pytest.approx(8 * 0.1 * 10, **near)
    assert cost.labour_usd == pytest.approx(2.0 * 10, **near)
    assert cost.carbon_usd == pytest.approx(kwh * 400 / 1e6 * 100, **near)
    terms = (getattr(cost, name) for name in cost.__dataclass_fields__ if name.endswith("_usd"))
    assert cost.usd == pytest.approx(sum(terms))


@pytest.mark.parametrize("change", [{"ready": False}, {"schedulable": False}, {"interrupted": True}])
def test_nothing_new_goes_to_a_node_that_is_going_or_not_there(change):
    plan = decide(a_situation(offerings=[A100], nodes=[a_node("n", A100, **change)], jobs=[a_job()]))
    assert plan.placements == ()
    assert held(plan).reason is Reason.NOT_ENOUGH_GPUS


def test_a_job_that_backs_off_leaves_its_place_to_the_next():
    away = a_job("away", priority=5, not_before=NOW + timedelta(seconds=30))
    plan = decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[away, a_job("next")]))
    assert placed(plan, "next").nodes == ("n",)
    later = replace(away, not_before=NOW)
    plan = decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[later, a_job("next")]))
    assert placed(plan, "away").nodes == ("n",)


def test_nodes_are_kept_for_a_gang_that_waits_for_more_of_them():
    """One node is empty for an hour, the other one is under way: the gang needs both."""
    empty = a_node("a", A100, removable=True, empty_since=NOW - timedelta(hours=1))
    coming = a_node("b", A100, ready=False, ready_at=NOW + timedelta(minutes=5))
    pool = a_pool(A100, scaler="Kwok", most=2)
    plan = decide(a_situation(offerings=[A100], nodes=[empty, coming], pools=[pool], jobs=[a_job(workers=2)]))
    assert held(plan).reason is Reason.NODES_ON_THE_WAY
    assert plan.resizes == ()


@pytest.mark.parametrize("change", [{"removable": False}, {"empty_since": None}])
def test_nodes_that_are_not_ours_or_not_empty_are_never_given_back(change):
    node = replace(a_node("a", A100, removable=True, empty_since=NOW - timedelta(hours=1)), **change)
    pool = a_pool(A100, scaler="Kwok", most=4)
    assert decide(a_situation(offerings=[A100], nodes=[node], pools=[pool])).resizes == ()


def test_a_pool_that_takes_only_advice_is_told_what_giving_back_would_save():
    node = a_node("a", A100, removable=True, empty_since=NOW - timedelta(hours=1))
    pool = a_pool(A100, scaler="Kwok", most=4, advise_only=True)
    (resize,) = decide(a_situation(offerings=[A100], nodes=[node], pools=[pool])).resizes
    assert resize.advise_only
    assert "removing them saves 8.00 USD/h" in resize.message


def test_the_nodes_of_a_requeued_gang_are_nobodys_until_its_pods_are_gone():
    """They are counted as used, so the next in the queue waits a cycle longer."""
    node = a_node("a", A100, used_gpus=8)
    stops = running_on(
        a_job("stops", budget_usd=1.0, spent_usd=2.0, on_exceed=OnExceed.CHECKPOINT_AND_STOP), node, offering=A100
    )
    plan = decide(a_situation(offerings=[A100], nodes=[node], jobs=[stops, a_job("next")]))
    assert [r.job for r in plan.requeues] == ["team/stops"]
    assert held(plan, "next").reason is Reason.NOT_ENOUGH_GPUS


def test_the_certificate_counts_those_left_out_and_says_how_far_the_rest_is_from_the_bound():
    jobs = [a_job("a"), a_job("b"), a_job("huge", workers=9)]
    certificate = decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=jobs)).certificate
    assert certificate is not None
    assert certificate.left_out == 1
    assert certificate.gap_ratio is not None
    assert certificate.gap_ratio > 0.01  # the second waits ten hours, which are worth ten dollars
    assert certificate.bound_usd == pytest.approx(2 * placed_alone_usd(), rel=1e-6)


def placed_alone_usd() -> float:
    return placed(decide(a_situation(offerings=[A100], nodes=[a_node("n", A100)], jobs=[a_job()]))).chosen.objective_usd


def test_a_chosen_place_names_why_not_for_each_other_one():
    nodes = [a_node("a", A100), a_node("h", H100)]
    full = an_offering("full", usd=1.0, zone="us-east-1b")
    unfit = an_offering("unfit", usd=1.0, model="L4", zone="us-east-1c")
    third = an_offering("third", usd=200.0, zone="us-east-1d")
    nodes += [a_node("f", full, used_gpus=8), a_node("u", unfit), a_node("t", third)]
    offerings = [A100, H100, full, unfit, third]
    why = placed(decide(a_situation(offerings=offerings, nodes=nodes, jobs=[a_job(speeds=BOTH)]))).explanation
    assert why.runner_up is not None
    assert why.runner_up.offering == H100.id
    assert {r.offering: r.reason for r in why.rejected} == {
        unfit.id: Reason.NO_SPEED_FOR_MODEL,
        full.id: Reason.NOT_ENOUGH_GPUS,
        third.id: Reason.DEARER,
    }


QUARTER = Slices(name="4-shared", resource="nvidia.com/gpu", per_gpu=4, fraction=0.25, memory_gib=20)
SHARED = replace(
    an_offering("shared", memory_gib=20),
    slices=QUARTER,
    per_node=Resources(gpus=32, cpu=96, memory_gib=1024, pods=110),
)


def a_part(name: str = "llama", fraction: float = 0.25, **changes: object) -> Job:
    """A job that a part of a GPU is enough for."""
    small = Resources(gpus=1, cpu=1, memory_gib=8, pods=1)
    return a_job(name, gpus=1, gpu_fraction=fraction, **{"per_worker": small, **changes})  # type: ignore[arg-type]


def test_a_fraction_goes_to_shared_gpus_and_is_charged_its_part():
    nodes = [a_node("a", A100), a_node("s", SHARED)]
    chosen = placed(decide(a_situation(offerings=[A100, SHARED], nodes=nodes, jobs=[a_part()])))
    assert chosen.nodes == ("s",)
    assert chosen.chosen.usd_per_hour == pytest.approx(8.0 / 32)


def test_a_fraction_that_takes_more_cpu_than_its_part_is_charged_for_that():
    greedy = a_part(per_worker=Resources(gpus=1, cpu=24, memory_gib=8, pods=1))
    plan = decide(a_situation(offerings=[SHARED], nodes=[a_node("s", SHARED)], jobs=[greedy]))
    assert placed(plan).chosen.usd_per_hour == pytest.approx(8.0 / 4)


def test_a_fraction_without_shared_gpus_pays_for_a_whole_one():
    plan = decide(a_situation(offerings=[A100], nodes=[a_node("a", A100)], jobs=[a_part()]))
    assert placed(plan).chosen.usd_per_hour == pytest.approx(1.0)


def test_a_part_is_taken_before_a_whole_one_even_where_both_are_paid_for():
    mine = an_offering("a-mine", usd=8.0, capacity=CapacityType.RESERVED)
    cut = replace(SHARED, capacity_type=CapacityType.RESERVED)
    nodes = [a_node("a", mine), a_node("s", cut)]
    assert placed(decide(a_situation(offerings=[mine, cut], nodes=nodes, jobs=[a_part()]))).nodes == ("s",)


def test_fractions_fill_the_shared_node_that_is_fullest():
    nodes = [a_node("a", SHARED), a_node("b", SHARED, used_gpus=20), a_node("c", SHARED, used_gpus=4)]
    assert placed(decide(a_situation(offerings=[SHARED], nodes=nodes, jobs=[a_part()]))).nodes == ("b",)


@pytest.mark.parametrize(
    ("job", "reason", "says"),
    [
        (a_job(gpus=1), Reason.SHARED_GPU, "4-shared"),
        (a_part(fraction=0.3), Reason.SLICE_TOO_SMALL, "0.25 of a GPU, spec.gpu.fraction is 0.3"),
        (a_part(gpu_memory_gib=40), Reason.GPU_MEMORY_TOO_SMALL, "has 20 GiB"),
    ],
    ids=["whole", "too small", "too little memory"],
)
def test_shared_gpus_say_whom_they_are_not_for(job, reason, says):
    plan = decide(a_situation(offerings=[SHARED], nodes=[a_node("s", SHARED)], jobs=[job]))
    assert held(plan).reason is reason
    assert says in held(plan).message


def test_no_node_is_bought_for_its_parts():
    pool = a_pool(SHARED, scaler="kwok", most=4)
    plan = decide(a_situation(offerings=[SHARED], pools=[pool], jobs=[a_part()]))
    assert held(plan).reason is Reason.NOT_ENOUGH_GPUS
    assert "needs 1 parts (4-shared) of A100-80GB, 0 free" in held(plan).message
