"""Small random fleets, for properties."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from stint.placement.fleet.model import Fleet


def a_fleet(
    pools: list[tuple[int, float, float]],
    jobs: list[tuple[tuple[float, ...], list[tuple[int, int]]]],
    *,
    gpus: int = 8,
) -> Fleet:
    """Pools as (market, price, limit), all of one size; jobs as (worker, [(market, workers)])."""
    shapes = sorted({worker for worker, _ in jobs})
    columns = [(c, m, w) for c, (_, ways) in enumerate(jobs) for m, w in ways]
    table = np.array(columns, dtype=np.int64).reshape(-1, 3)
    return Fleet(
        capacity=np.tile([float(gpus), 12.0 * gpus, 96.0 * gpus], (len(pools), 1)),
        usd_per_hour=np.array([usd for _, usd, _ in pools], dtype=float),
        limit=np.array([limit for *_, limit in pools], dtype=float),
        market=np.array([m for m, *_ in pools], dtype=np.int64),
        shape=np.array(shapes, dtype=float).reshape(-1, 3),
        class_shape=np.array([shapes.index(worker) for worker, _ in jobs], dtype=np.int64),
        count=np.ones(len(jobs), dtype=np.int64),
        column_class=table[:, 0],
        column_market=table[:, 1],
        column_workers=table[:, 2],
        column_usd_per_hour=np.zeros(len(table)),
    )


@st.composite
def fleets(draw: st.DrawFn, *, most_jobs: int = 6) -> Fleet:
    """Up to three markets; the first is dear and has no limit, so that everybody has a place somewhere."""
    markets = draw(st.integers(1, 3))
    pools = [(0, 10.0, np.inf)]
    for m in range(markets):
        prices = draw(st.lists(st.sampled_from([2.0, 4.0, 7.5]), min_size=1, max_size=2))
        pools += [(m, usd, float(draw(st.integers(0, 3)))) for usd in prices]
    jobs = []
    for _ in range(draw(st.integers(1, most_jobs))):
        gpus = draw(st.sampled_from([1, 2, 4, 8]))
        worker = (
            float(gpus),
            gpus * draw(st.sampled_from([2.0, 6.0, 12.0])),
            gpus * draw(st.sampled_from([8.0, 96.0])),
        )
        wanted = draw(st.lists(st.integers(0, markets - 1), min_size=1, max_size=3, unique=True))
        jobs.append((worker, [(m, draw(st.integers(1, 3))) for m in sorted({0, *wanted})]))
    return a_fleet(pools, jobs)
