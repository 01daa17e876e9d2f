"""What workers log of their own work is the reference; whatever accounting there is must agree with it.

`gang-on-kind.json` is one such log, of a gang on real kubelets whose rank 0 was killed; the e2e suite on kind wrote it.
"""

from __future__ import annotations

from typing import Any

GAP_S = 40.0  # scheduling, starting, meeting, and the backing off and starting again in the middle

UNSEEN_S = 10.0


def worked_s(record: dict[str, Any]) -> tuple[float, float]:
    """The gang's useful and lost seconds of compute, as its ranks agree on them at the end."""
    ends = [line for line in record["lines"] if line["event"] == "done"]
    assert {line["rank"] for line in ends} == set(range(record["job"]["workers"]))
    ((useful, lost),) = {(line["seconds_useful"], line["seconds_lost"]) for line in ends}
    return useful, lost


def check(record: dict[str, Any]) -> None:
    """The bill covers what was worked and not much else; what was taken to have survived is near what did."""
    useful, lost = worked_s(record)
    billed = record["spentUsd"] / record["usdPerHour"] * 3600
    assert useful + lost <= billed <= useful + lost + GAP_S
    resumed = [line for line in record["lines"] if line["event"] == "resume"]
    spec = record["job"]
    (steps_per_second,) = spec["work"]["unitsPerSecond"].values()
    every = spec["checkpoint"]["everyMinutes"] * 60 * steps_per_second
    # It goes by the clock: seconds to meet, and until a failure is noticed, look like work to it.
    assert record["unitsKept"] > 0
    assert abs(record["unitsKept"] - resumed[0]["step"]) <= every + UNSEEN_S * steps_per_second
