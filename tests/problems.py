"""Small random clusters and queues, for properties."""

from __future__ import annotations

from hypothesis import strategies as st

from stint.model.cluster import HOSTNAME, ZONE
from stint.model.job import Topology
from stint.model.offering import CapacityType
from stint.model.situation import Situation
from stint.testing.builders import a_job, a_node, a_pool, a_situation, an_offering, running_on

RACK = "example.com/rack"
_TOPOLOGIES = [Topology(key=key, required=required) for key in (RACK, HOSTNAME, ZONE) for required in (True, False)]
_KINDS = (("A100-80GB", 8.0, CapacityType.ON_DEMAND), ("H100-SXM", 24.0, CapacityType.SPOT))


@st.composite
def situations(
    draw: st.DrawFn, *, most_jobs: int = 5, most_nodes: int = 4, gpus: int = 8, topologies: bool = True
) -> Situation:
    """Up to two offerings, some nodes partly used, pools that may grow, jobs of all sizes, nodes in racks and not."""
    offerings = [
        an_offering(
            f"p{i}",
            usd=draw(st.sampled_from([usd, usd / 2])),
            model=model,
            capacity=capacity,
            gpus=gpus,
            interruptions_per_hour=0.05 if capacity is CapacityType.SPOT else None,
        )
        for i, (model, usd, capacity) in enumerate(_KINDS[: draw(st.integers(1, 2))])
    ]
    nodes = [
        a_node(
            f"n{i}",
            draw(st.sampled_from(offerings)),
            used_gpus=draw(st.integers(0, gpus)),
            labels=draw(st.sampled_from([{}, {RACK: "a", ZONE: "us-east-1a"}, {RACK: "b", ZONE: "us-east-1a"}])),
        )
        for i in range(draw(st.integers(0, most_nodes)))
    ]
    pools = [
        a_pool(o, scaler=draw(st.sampled_from([None, "Kwok"])), most=draw(st.integers(0, most_nodes + 2)))
        for o in offerings
    ]
    jobs = [
        a_job(
            f"j{i}",
            workers=draw(st.integers(1, 4)),
            gpus=draw(st.sampled_from([1, 2, 4, 8])),
            hours=draw(st.floats(0.1, 40)),
            speeds={"A100-80GB": 1.0, "H100-SXM": draw(st.floats(1.5, 3))},
            deadline_hours=draw(st.one_of(st.none(), st.floats(1, 60))),
            priority=draw(st.integers(0, 1)),
            topology=draw(st.sampled_from([None, *(_TOPOLOGIES if topologies else ())])),
        )
        for i in range(draw(st.integers(0, most_jobs)))
    ]
    free = [n for n in nodes if n.used.gpus == gpus]
    if free:  # a node that somebody of ours fills, and will leave
        there = next(o for o in offerings if o.id == free[0].offering)
        jobs.append(running_on(a_job("runs", gpus=gpus), free[0], offering=there, hours_left=draw(st.floats(0.1, 20))))
    return a_situation(jobs=jobs, nodes=nodes, offerings=offerings, pools=pools)
