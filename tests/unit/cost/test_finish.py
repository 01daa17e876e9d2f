"""The cost to finish. Each term has a test that fails when the term is dropped or its units are mixed up."""

import dataclasses

import numpy as np
import pytest

from stint.cost.finish import COMPONENTS, FinishInputs, cost_to_finish

# A run whose every term differs from nothing and from every other: 10 h of work, no interruptions, so that the
# expected numbers can be worked out by hand. Checkpoints: 5 of 6 min make 10.5 h of it, 11 h with the boot.
BY_HAND = {
    "work_hours": 10.0,
    "wait_hours": 3.0,
    "boot_hours": 0.5,
    "interruptions_per_hour": 0.0,
    "checkpoint_every_hours": 2.0,
    "checkpoint_hours": 0.1,
    "restart_hours": 0.2,
    "billed_nodes": 1.5,
    "usd_per_node_hour": 20.0,
    "watts": 4000.0,
    "pue": 1.25,
    "usd_per_kwh": 0.1,
    "g_co2_per_kwh": 400.0,
    "usd_per_tonne_co2": 50.0,
    "egress_gib": 1000.0,
    "usd_per_egress_gb": 0.02,
    "storage_gib": 500.0,
    "usd_per_storage_gb_month": 0.08,
    "licence_usd_per_hour": 4.0,
    "labour_usd_per_hour": 0.7,
    "hours_to_deadline": 12.0,
    "lateness_usd_per_hour": 9.0,
}
EXPECTED = {
    "wall_hours": 10.5,
    "finish_hours": 14.0,  # 3 + 0.5 + 10.5
    "hardware_usd": 300.0,  # 10 h x 1.5 x 20
    "rework_usd": 15.0,  # 0.5 h
    "startup_usd": 15.0,  # 0.5 h
    "energy_usd": 5.5,  # 11 h x 4 kW x 1.25 = 55 kWh
    "egress_usd": 21.47483648,  # 1000 GiB are 1073.741824 GB
    "storage_usd": 0.6471867,  # 536.870912 GB x 0.08 x 11 / 730
    "licence_usd": 44.0,
    "labour_usd": 7.7,
    "lateness_usd": 18.0,  # 2 h past the deadline
    "carbon_usd": 1.1,  # 22 kg
    "total_usd": 428.4220232,
    "energy_kwh": 55.0,
    "carbon_g": 22000.0,
}


def inputs(**changes: float) -> FinishInputs:
    return FinishInputs(**{name: np.array([value]) for name, value in {**BY_HAND, **changes}.items()})


def value(name: str, **changes: float) -> float:
    return float(getattr(cost_to_finish(inputs(**changes)), name)[0])


@pytest.mark.parametrize("name", EXPECTED)
def test_agrees_with_a_sum_worked_out_by_hand(name):
    assert value(name) == pytest.approx(EXPECTED[name], rel=1e-6)


IN_THE_BILL = [name for name in EXPECTED if name.endswith("_usd") and name != "total_usd"]  # not asked of the code


@pytest.mark.parametrize("component", IN_THE_BILL)
def test_the_total_misses_no_component(component):
    others = sum(EXPECTED[name] for name in IN_THE_BILL if name != component)
    assert value("total_usd") - others == pytest.approx(EXPECTED[component], rel=1e-4)


def test_the_list_of_components_is_the_bill():
    assert list(COMPONENTS) == IN_THE_BILL


@pytest.mark.parametrize(
    "name",
    sorted(set(BY_HAND) - {"restart_hours", "interruptions_per_hour", "hours_to_deadline", "checkpoint_every_hours"}),
)
def test_every_number_given_makes_a_difference(name):
    assert value("total_usd", **{name: BY_HAND[name] * 1.5}) > value("total_usd") + 1e-3


def test_interruptions_restarts_and_tighter_deadlines_make_a_difference():
    shaky = value("total_usd", interruptions_per_hour=0.1)
    assert shaky > value("total_usd")
    assert value("total_usd", interruptions_per_hour=0.1, restart_hours=1.0) > shaky
    assert value("total_usd", hours_to_deadline=13.0) == pytest.approx(value("total_usd") - 9.0)
    assert value("total_usd", checkpoint_every_hours=1.0) > value("total_usd")


def test_waiting_is_not_billed_but_delays():
    longer = {"wait_hours": 4.0}
    assert value("finish_hours", **longer) == value("finish_hours") + 1
    assert value("total_usd", **longer, lateness_usd_per_hour=0.0) == value("total_usd", lateness_usd_per_hour=0.0)
    assert value("lateness_usd", **longer) == value("lateness_usd") + 9.0


def test_being_early_earns_nothing():
    assert value("lateness_usd", hours_to_deadline=100.0) == 0.0
    assert value("lateness_usd", hours_to_deadline=np.inf) == 0.0


def test_rework_is_what_the_stretch_costs():
    result = cost_to_finish(inputs(interruptions_per_hour=0.1))
    stretched = (result.wall_hours - 10.0) * 1.5 * 20.0
    assert result.rework_usd == pytest.approx(stretched)
    assert result.hardware_usd == pytest.approx(300.0)


@pytest.mark.parametrize("name", sorted(set(BY_HAND) - {"checkpoint_every_hours", "hours_to_deadline"}))
def test_an_infinite_input_costs_infinity_and_is_never_nan(name):
    result = cost_to_finish(inputs(**{name: np.inf}))
    for field in dataclasses.fields(result):
        assert getattr(result, field.name).tolist() == [np.inf]


@pytest.mark.parametrize("free", ["usd_per_node_hour", "lateness_usd_per_hour", "usd_per_kwh", "billed_nodes"])
def test_a_job_that_cannot_run_costs_infinity_even_where_everything_is_free(free):
    assert value("total_usd", work_hours=np.inf, hours_to_deadline=np.inf, **{free: 0.0}) == np.inf


def test_one_column_that_cannot_run_leaves_its_neighbours_alone():
    both = {name: np.array([number, number]) for name, number in BY_HAND.items()}
    both["work_hours"] = np.array([np.inf, 10.0])
    result = cost_to_finish(FinishInputs(**both))
    assert result.total_usd == pytest.approx([np.inf, EXPECTED["total_usd"]])


@pytest.mark.parametrize("name", BY_HAND)
@pytest.mark.parametrize("wrong", [-1.0, np.nan])
def test_a_negative_or_missing_number_is_refused_by_name(name, wrong):
    with pytest.raises(ValueError, match=f"^{name} "):
        inputs(**{name: wrong})


def test_a_checkpoint_interval_of_zero_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^checkpoint_every_hours "):
        inputs(checkpoint_every_hours=0.0)


def test_arrays_of_different_lengths_are_refused_by_name():
    columns = {name: np.array([number]) for name, number in BY_HAND.items()}
    columns["watts"] = np.array([1.0, 2.0])
    with pytest.raises((ValueError, TypeError), match="watts"):  # jaxtyping, where it is on, is quicker
        FinishInputs(**columns)


def test_no_ways_to_run_cost_nothing_and_do_not_break():
    assert cost_to_finish(FinishInputs(**{name: np.array([]) for name in BY_HAND})).total_usd.shape == (0,)


def test_a_run_that_would_take_longer_than_history_never_ends():
    """e^700 is a number, but multiplied by anything it no longer is."""
    for hours in (300.0, 700.0, 1500.0):
        result = cost_to_finish(inputs(work_hours=hours, checkpoint_every_hours=np.inf, interruptions_per_hour=1.0))
        assert result.total_usd.tolist() == [np.inf]
