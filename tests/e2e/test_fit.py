"""Where a worker fits by our reckoning, it fits by kube-scheduler's, and nowhere else. `hack.bench fit` asks more."""

from __future__ import annotations

import asyncio
import gc
import warnings

import pytest

from hack.bench import fit

pytestmark = pytest.mark.e2e


def test_kube_scheduler_agrees_on_random_workers_nodes_and_neighbours(cluster):
    asyncio.run(fit.prepare(cluster))
    row = asyncio.run(fit.compare(cluster, seed=7, pairs=80))
    with warnings.catch_warnings():
        # TLS connections of watches that were cut off end with their event loop; no later test is to answer for them.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    assert row["examples"] == []
    assert 0.2 < row["bound"] / row["pairs"] < 0.8, "both answers are asked about"
