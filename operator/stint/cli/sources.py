"""Where a command gets its situation from: a file, or a look at the cluster."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from stint.api import snapshot
from stint.api.gpupool import GPUPool
from stint.api.pricebook import PriceBook
from stint.api.trainingjob import TrainingJob
from stint.controllers.bookkeeper import Bookkeeper
from stint.errors import StintError
from stint.feeds import bundled
from stint.feeds.sources import standing
from stint.kube.client.api import Api, ApiError, connect
from stint.kube.observe.opted_in import only_opted_in
from stint.kube.observe.snapshot import Caches, Observation, observe, with_spending
from stint.kube.records import JOB_LABEL
from stint.kube.reduce import reduce_job, reduce_node, reduce_pod
from stint.kube.steered import MANAGED
from stint.kube.surroundings import NAMESPACES, SURROUNDINGS, Listed
from stint.kube.wire import WireJob, WireNode, WirePod
from stint.kube.workloads import WireWorkload, WorkloadRecord, reducer
from stint.model.situation import Settings, Situation
from stint.workloads.kind import Kind
from stint.workloads.registry import KINDS

BROKEN_PROMISE = 3  # exit code: a deadline or a budget does not hold


def situation_of(options: argparse.Namespace, *, besides: Sequence[TrainingJob] = ()) -> Situation:
    """From the file that `--file` names, or from the cluster, where `besides` are taken to be, too.

    To be decided about for everybody: without what stood before.
    """
    if options.file is None:
        return asyncio.run(situation_from_cluster(options.kubeconfig, besides=besides))
    if str(options.file) == "-":
        text, name = sys.stdin.buffer.read(), "standard input"
    else:
        name = str(options.file)
        try:
            text = Path(options.file).read_bytes()
        except OSError as error:
            raise StintError(f"{options.file}: {error.strerror}") from error
    return replace(snapshot.decode(text, name=name).situation, before=None)


async def situation_from_cluster(
    kubeconfig: Path | None,
    *,
    besides: Sequence[TrainingJob] = (),
    as_if_new: bool = False,
    without_stint: bool = False,
) -> Situation:
    """Look once, as the operator does all the time: `look`'s situation."""
    seen, _ = await look(kubeconfig, besides=besides, as_if_new=as_if_new, without_stint=without_stint)
    return replace(seen.situation, notes=(*seen.situation.notes, "seen from outside: utilisation was not looked at"))


async def look(
    kubeconfig: Path | None,
    *,
    besides: Sequence[TrainingJob] = (),
    as_if_new: bool = False,
    without_stint: bool = False,
) -> tuple[Observation, list[PriceBook]]:
    """Look once, as the operator does all the time, with what everybody has spent until now; and the PriceBooks.

    Sources of prices are not asked again: their figures are those that the operator keeps in the PriceBooks' statuses,
    so that what is seen from outside is what it decides by.

    Args:
        besides: TrainingJobs that are taken to be there, too, submitted now; each needs a uid.
        as_if_new: take every TrainingJob as just submitted: what would be if nothing had been decided yet.
        without_stint: it need not be installed there.
    """
    async with Api(connect(kubeconfig)) as api:

        async def items(path: str, kind: type[Any], params: Mapping[str, str] | None = None) -> list[Any]:
            try:
                listed = await api.get(path, params)
            except ApiError as error:
                if error.status != 404 or not without_stint:
                    raise
                return []
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
        opted_in = await _if_allowed(api, NAMESPACES)
        around = await asyncio.gather(*(_if_allowed(api, kind) for kind in SURROUNDINGS.values()))
    if opted_in is not None:
        pods = list(only_opted_in(pods, {n.name for n in opted_in}))
    now = datetime.now(UTC)
    if as_if_new:
        pods, batch = [], []
        jobs = [TrainingJob(metadata=j.metadata, spec=j.spec) for j in jobs]
    jobs += besides
    caches = Caches(
        trainingjobs=jobs,
        gpu_pools=gpu_pools,
        price_books=books,
        nodes=nodes,
        pods=pods,
        jobs=batch,
        workloads=[w for some in workloads for w in some],
        plan_key=None,  # the operator's alone
        **{name: found for name, found in zip(SURROUNDINGS, around, strict=True) if found is not None},
    )
    created = {j.metadata.uid: now if as_if_new else j.metadata.creation_timestamp or now for j in jobs}
    catalogue = standing(bundled.load(), books, now)
    seen = observe(caches, catalogue, Settings(), now=now, created=created, empty_since={})
    keeper = Bookkeeper(of=lambda at: at, catalogue=catalogue)
    spending = keeper.book(seen, caches, {}, known_until=now)
    return with_spending(seen, spending, keeper.bought), books


async def _workloads(api: Api, kind: Kind) -> list[WorkloadRecord]:
    """Of one kind, those that Stint steers; none where it is not installed or whoever asks may not see it."""
    try:
        return await _reduced(api, kind.path(), WireWorkload, reducer(kind), {"labelSelector": f"{MANAGED}=true"})
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        return []


async def _if_allowed(api: Api, kind: Listed) -> list[Any] | None:
    """None where the user has no right to list it: then it counts as if there were none."""
    try:
        return await _reduced(api, kind.path, kind.wire, kind.reduce, kind.params)
    except ApiError as error:
        if error.status not in (403, 404):
            raise
        return None


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
