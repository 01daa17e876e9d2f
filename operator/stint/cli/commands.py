"""What the commands do: find a situation, decide, show."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from stint.api import snapshot
from stint.api.trainingjob import TrainingJob
<<<<<<< HEAD
from stint.cli import quote, show, whatif
from stint.cli.sources import BROKEN_PROMISE, situation_of
=======
from stint.cli import show, simulate
>>>>>>> 50f2ace1e9546a2cd78bd990eae6c6f6233cca95
from stint.controllers.status import outcomes
from stint.decide import decide
from stint.errors import StintError
from stint.feeds import bundled
from stint.kube.client import Api, connect
from stint.model.job import Job, split_job_id
from stint.whatif import written
from stint.whatif.promises import broken_promises


def plan(options: argparse.Namespace) -> int:
    """`stint plan`"""
    situation = situation_of(options)
    if options.solver:
        situation = replace(situation, settings=replace(situation.settings, solver=options.solver))
    changes = written.read(whatif.written_in(options), situation, bundled.load())
    made = decide(situation)
    if changes or options.policy:
        return whatif.compared(options, situation, made, changes)
    if options.output == "json":
        sys.stdout.write(snapshot.encode_plan(made).decode())
    else:
        show.plan(situation, made)
    return BROKEN_PROMISE if broken_promises(situation, made) else 0


def explain(options: argparse.Namespace) -> int:
    """`stint explain JOB`"""
    situation = situation_of(options)
    made = decide(situation)
    wanted = options.job if "/" in options.job else f"{options.namespace}/{options.job}"
    matches = [
        j for j in situation.jobs if j.id == wanted or ("/" not in options.job and j.id.endswith(f"/{options.job}"))
    ]
    if len(matches) != 1:
        there = ", ".join(sorted(j.id for j in situation.jobs)) or "none"
        which = "is no job that has yet to end" if not matches else "is the name of several jobs; give NAMESPACE/NAME"
        raise StintError(f"{options.job} {which}; there are: {there}")
    job = matches[0]
    if options.output == "json":
        part = outcomes(made).get(job.id)
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(part, order="sorted"), indent=1).decode() + "\n")
    else:
        show.explanation(made, job)
        if job.assignment is not None and options.file is None:
            show.remembered(asyncio.run(_resource(options.kubeconfig, job)).status)
    return 0


def prices(options: argparse.Namespace) -> int:
    """`stint prices`"""
    catalogue = bundled.load()
    show.prices(catalogue, options, today=datetime.now(UTC).date())
    return 0


async def _resource(kubeconfig: Path | None, job: Job) -> TrainingJob:
    """One TrainingJob; its status remembers why it was placed where it is."""
    namespace, name = split_job_id(job.id)
    async with Api(connect(kubeconfig)) as api:
        found = await api.get(f"/apis/stint.dev/v1alpha1/namespaces/{namespace}/trainingjobs/{name}")
    return msgspec.convert(found, TrainingJob)


<<<<<<< HEAD
VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "plan": plan,
    "explain": explain,
    "quote": quote.quote,
    "prices": prices,
=======
async def situation_from_cluster(kubeconfig: Path | None, *, as_if_new: bool = False) -> Situation:
    """Look once, as the operator does all the time.

    Args:
        as_if_new: take every TrainingJob as just submitted: what would be if nothing had been decided yet.
    """
    async with Api(connect(kubeconfig)) as api:

        async def items(path: str, kind: type[Any], params: Mapping[str, str] | None = None) -> list[Any]:
            listed = await api.get(path, params)
            return [msgspec.convert(item, kind) for item in listed["items"]]

        own = "/apis/stint.dev/v1alpha1"
        jobs, gpu_pools, books, nodes, pods, batch = await asyncio.gather(
            items(f"{own}/trainingjobs", TrainingJob),
            items(f"{own}/gpupools", GPUPool),
            items(f"{own}/pricebooks", PriceBook),
            _reduced(api, "/api/v1/nodes", WireNode, reduce_node),
            _reduced(api, "/api/v1/pods", WirePod, reduce_pod),
            _reduced(api, "/apis/batch/v1/jobs", WireJob, reduce_job, {"labelSelector": JOB_LABEL}),
        )
        workloads = await asyncio.gather(*(_workloads(api, kind) for kind in KINDS.values()))
    now = datetime.now(UTC)
    if as_if_new:
        pods, batch = [], []
        jobs = [TrainingJob(metadata=j.metadata, spec=j.spec) for j in jobs]
    caches = Caches(
        trainingjobs=jobs,
        gpu_pools=gpu_pools,
        price_books=books,
        nodes=nodes,
        pods=pods,
        jobs=batch,
        workloads=[w for some in workloads for w in some],
    )
    created = {j.metadata.uid: now if as_if_new else j.metadata.creation_timestamp or now for j in jobs}
    seen = observe(caches, bundled.load(), Settings(), now=now, created=created, empty_since={})
    return replace(seen.situation, notes=(*seen.situation.notes, "seen from outside: utilisation was not looked at"))


async def _workloads(api: Api, kind: Kind) -> list[WorkloadRecord]:
    """Of one kind, those that Stint steers; none where it is not installed or whoever asks may not see it."""
    try:
        return await _reduced(api, kind.path(), WireWorkload, reducer(kind), {"labelSelector": f"{MANAGED}=true"})
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        return []


async def _reduced(
    api: Api,
    path: str,
    wire: type[Any],
    reduce: Callable[[Any], tuple[str, str, Any]],
    params: Mapping[str, str] | None = None,
) -> list[Any]:
    page = msgspec.defstruct("Page", [("items", list[wire])])  # type: ignore[valid-type]
    decoded: Any = msgspec.json.decode(await api.raw("GET", path, params=params), type=page)
    return [reduce(item)[2] for item in decoded.items]


VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "plan": plan,
    "explain": explain,
    "prices": prices,
    "simulate": simulate.simulate,
>>>>>>> 50f2ace1e9546a2cd78bd990eae6c6f6233cca95
}
