"""The situations whose plans are kept. `python -m tests.golden.situations` writes situations and plans anew.

Read the diff of the plans before committing it: each changed line is a decision that people will get.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from hack.demo import scenarios
from hack.demo.__main__ import FLEET
from hack.fleet import objects
from stint.api import snapshot
from stint.api.gpupool import GPUPool
from stint.api.trainingjob import TrainingJob
from stint.decide import decide
from stint.feeds import bundled
from stint.kube.observe.snapshot import Caches, observe
from stint.kube.reduce import reduce_node
from stint.kube.wire import WireNode
from stint.model.gang import Admitted, GangState, Idle, NodeRejection
from stint.model.job import Checkpoint, Data, Job, OnExceed, OnIdle
from stint.model.offering import CapacityType
from stint.model.situation import Settings, Situation
from stint.testing.builders import NOW, a_gang, a_job, a_node, a_pool, a_situation, an_offering, running_on

HOURLY = Checkpoint(every=timedelta(hours=1))
HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parent.parent / "hack" / "samples" / "situation.json"  # the one that the README shows


def three_teams() -> Situation:
    """The demo's fleet and jobs as they are first seen, at the prices of the catalogue."""
    made = objects(FLEET)
    nodes = []
    for thing in made:
        if thing["kind"] == "Node":
            thing["metadata"]["uid"] = thing["metadata"]["name"]
            thing["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
            nodes.append(reduce_node(msgspec.convert(thing, WireNode))[2])
    pools = [msgspec.convert(_with_uid(t), GPUPool) for t in made if t["kind"] == "GPUPool"]
    jobs = [
        msgspec.convert(_with_uid(t), TrainingJob)
        for pack in scenarios.packs()
        for t in scenarios.manifests(pack)
        if t["kind"] == "TrainingJob"
    ]
    caches = Caches(trainingjobs=jobs, gpu_pools=pools, price_books=[], nodes=nodes, pods=[], jobs=[])
    created = {j.metadata.uid: NOW for j in jobs}
    return observe(caches, bundled.load(), Settings(), now=NOW, created=created, empty_since={}).situation


def _with_uid(thing: dict[str, Any]) -> dict[str, Any]:
    meta = thing["metadata"]
    return {**thing, "metadata": {**meta, "uid": f"{meta.get('namespace', '')}/{meta['name']}"}}


def wait_or_buy() -> Situation:
    """A cheap node falls free in an hour; a dear one can be bought now; one job is in a hurry and one is not."""
    cheap, dear = an_offering("owned", usd=4.0, capacity=CapacityType.OWNED), an_offering("cloud", usd=30.0)
    busy = a_node("dgx-0", cheap, used_gpus=8)
    return a_situation(
        offerings=[cheap, dear],
        nodes=[busy],
        pools=[a_pool(cheap), a_pool(dear, scaler="Kwok", most=2)],
        jobs=[
            running_on(a_job("runs"), busy, offering=cheap, hours_left=1),
            a_job("patient"),
            a_job("hurried", deadline_hours=10.5),
        ],
    )


def every_no() -> Situation:
    """One job for each common reason to wait."""
    offering = an_offering()
    idle = a_node("idle", offering, removable=True, empty_since=NOW - timedelta(hours=1))
    return a_situation(
        offerings=[offering],
        nodes=[idle],
        pools=[a_pool(offering, scaler="Kwok", most=2, advise_only=True)],
        jobs=[
            a_job("large", workers=2),
            a_job("huge", workers=20),
            a_job("poor", budget_usd=1.0),
            a_job("strange", speeds={"H100-SXM": 1.0}),
            a_job("tied", data=Data(gib=1.0, provider="gcp", region="us-central1", may_leave_region=False)),
            a_job("blamed", not_before=NOW + timedelta(minutes=1)),
        ],
    )


def every_requeue() -> Situation:
    """One gang for each reason to requeue one, but for moves."""
    offering = an_offering()
    ready = [a_node(f"n{i}", offering, used_gpus=8) for i in range(15)]
    minute = timedelta(minutes=1)
    ready[3] = replace(ready[3], ready=False, unready_since=NOW - 2 * minute)
    ready[4] = replace(ready[4], interrupted=True)
    made = iter(ready)

    def on(name: str, **changes: Any) -> Job:
        return running_on(a_job(name, checkpoint=HOURLY, **changes), next(made), offering=offering, hours_left=5)

    def starting(job: Job) -> Job:
        assert job.assignment is not None
        return replace(job, assignment=replace(job.assignment, running=False, since=NOW - 3 * minute))

    fine, evicted, failed = on("runs"), on("evicted"), on("failed")
    lost, taken = on("on-a-lost-node"), on("on-a-spot-node")
    spent = on("spent", budget_usd=10.0, spent_usd=10.0, on_exceed=OnExceed.CHECKPOINT_AND_STOP)
    gone, stuck = on("worker-gone"), starting(on("stuck"))
    idle, stops, suspended = on("idle"), on("idle-stops"), on("suspended", suspended=True)
    limited = starting(on("limit-range"))
    vanished = a_job("vanished", checkpoint=HOURLY)
    rejected, refused = starting(on("rejected")), starting(on("unschedulable"))
    nothing = Idle(since=NOW - 40 * minute, gpus=8, processless=True, usd_per_hour=8.0)
    sick = NodeRejection(
        rank=0, node=rejected.assignment.nodes[0], reason="UnexpectedAdmissionError", message="no device"
    )
    gangs = [
        a_gang(fine),
        a_gang(evicted, disruption="evicted-0 on n1 is taken away (PreemptionByScheduler)"),
        a_gang(failed, state=GangState.FAILED, failure="exit code 137", attempt=1),
        a_gang(lost),
        a_gang(taken),
        a_gang(spent),
        a_gang(gone, gone=(0,), pods=0, ready=0),
        a_gang(stuck, unschedulable=(0,), failed_starts=1),
        a_gang(limited, ready=0, admitted=Admitted(requests=replace(limited.per_worker, cpu=40.0))),
        a_gang(idle, idle=nothing, on_idle=OnIdle.CHECKPOINT),
        a_gang(stops, idle=nothing, on_idle=OnIdle.STOP),
        a_gang(suspended, suspend=True),
        a_gang(vanished, had_place=True),
        a_gang(rejected, state=GangState.FAILED, failure="BackoffLimitExceeded", rejections=(sick,)),
        a_gang(refused, since=NOW, unschedulable=(0,), refusal="0/14 nodes", refused_since=NOW - minute),
    ]
    jobs = [fine, evicted, failed, lost, taken, spent, gone, stuck, limited, idle, stops, suspended, vanished]
    jobs += [rejected, refused]
    return a_situation(offerings=[offering], nodes=ready, jobs=jobs, gangs=gangs)


def _by_exact(situation: Situation) -> Situation:
    return replace(situation, settings=replace(situation.settings, solver="exact"))


SITUATIONS: Mapping[str, Callable[[], Situation]] = {
    "three-teams": lambda: _by_exact(three_teams()),
    "three-teams-by-portfolio": three_teams,
    "wait-or-buy": lambda: _by_exact(wait_or_buy()),
    "every-no": lambda: _by_exact(every_no()),
    "every-requeue": every_requeue,
}


def files() -> dict[Path, bytes]:
    """What should be in this folder."""
    made = {
        HERE / f"{name}.json": snapshot.encode(situation := make(), decide(situation))
        for name, make in SITUATIONS.items()
    }
    return made | {SAMPLE: snapshot.encode(three_teams(), None)}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_bytes(text)
