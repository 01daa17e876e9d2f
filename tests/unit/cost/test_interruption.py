"""The stretch of a run on capacity that may be taken away, checked along another road: dice."""

import numpy as np
import pytest

from stint.cost.interruption import expected_wall_hours, gang_interruptions_per_hour


def column(*values: float) -> np.ndarray:
    return np.array(values, dtype=float)


def simulated_wall_hours(
    segments: int, segment_hours: float, rate: float, restart_hours: float, *, runs: int = 200_000
) -> float:
    """Play the whole thing. Every attempt at a segment or a restart draws when the next interruption comes."""
    rng = np.random.default_rng(7)
    hours = np.zeros(runs)
    left = np.full(runs, segments)
    restarting = np.zeros(runs, dtype=bool)
    while (alive := left > 0).any():
        needed = np.where(restarting, restart_hours, segment_hours)
        until_interrupted = rng.exponential(1 / rate, runs)
        interrupted = until_interrupted < needed
        hours += np.where(alive, np.minimum(until_interrupted, needed), 0.0)
        left -= alive & ~interrupted & ~restarting
        restarting = interrupted
    return float(hours.mean())


@pytest.mark.parametrize(
    ("rate", "every", "takes", "restart"),
    [(0.3, 1.0, 0.25, 0.5), (0.05, 2.0, 0.2, 1.0), (1.0, 0.5, 0.1, 0.2)],
)
def test_agrees_with_a_plain_simulation(rate, every, takes, restart):
    simulated = simulated_wall_hours(int(10 / every), every + takes, rate, restart)
    computed = expected_wall_hours(
        column(10.0),
        column(rate),
        checkpoint_every_hours=column(every),
        checkpoint_hours=column(takes),
        restart_hours=column(restart),
    )
    assert computed[0] == pytest.approx(simulated, rel=0.005)


def test_a_job_that_never_checkpoints_agrees_with_a_simulation_of_one_segment():
    simulated = simulated_wall_hours(1, 5.0, 0.2, 0.5)
    computed = expected_wall_hours(
        column(5.0),
        column(0.2),
        checkpoint_every_hours=column(np.inf),
        checkpoint_hours=column(0.7),  # never written, so it costs nothing
        restart_hours=column(0.5),
    )
    assert computed[0] == pytest.approx(simulated, rel=0.01)


def test_without_interruptions_only_the_checkpoints_take_longer():
    computed = expected_wall_hours(
        column(10.0, 10.0),
        column(0.0, 0.0),
        checkpoint_every_hours=column(2.0, np.inf),
        checkpoint_hours=column(0.1, 0.1),
        restart_hours=column(5.0, 5.0),
    )
    assert computed == pytest.approx([10.5, 10.0])


def test_a_checkpoint_due_after_the_end_is_never_written():
    shared = {"checkpoint_hours": column(0.5), "restart_hours": column(0.1)}
    late = expected_wall_hours(column(3.0), column(0.1), checkpoint_every_hours=column(4.0), **shared)
    never = expected_wall_hours(column(3.0), column(0.1), checkpoint_every_hours=column(np.inf), **shared)
    assert late == pytest.approx(never)


def test_work_that_cannot_be_done_and_work_that_is_done():
    computed = expected_wall_hours(
        column(np.inf, 0.0, 0.0, 1e4),
        column(0.1, 0.1, 0.0, 5.0),
        checkpoint_every_hours=column(1.0, 1.0, np.inf, np.inf),
        checkpoint_hours=column(0.1, 0.1, 0.1, 0.0),
        restart_hours=column(0.1, 0.1, 0.1, 0.1),
    )
    assert computed.tolist() == [np.inf, 0.0, 0.0, np.inf]  # the last: 10,000 hours without ever a checkpoint


def test_keeps_its_precision_where_interruptions_are_rare():
    computed = expected_wall_hours(
        column(10.0),
        column(1e-13),
        checkpoint_every_hours=column(1.0),
        checkpoint_hours=column(0.0),
        restart_hours=column(0.0),
    )
    assert computed[0] == pytest.approx(10.0, rel=1e-12)


def test_a_checkpoint_interval_of_zero_is_refused():
    with pytest.raises(ValueError, match="checkpoint_every_hours"):
        expected_wall_hours(
            column(1.0),
            column(0.0),
            checkpoint_every_hours=column(0.0),
            checkpoint_hours=column(0.0),
            restart_hours=column(0.0),
        )


def test_a_gang_is_interrupted_when_any_of_its_nodes_is():
    assert gang_interruptions_per_hour(column(0.05, 0.05), column(1.0, 8.0)) == pytest.approx([0.05, 0.4])
