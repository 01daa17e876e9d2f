"""What the commands do: find a situation, decide, show."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from stint.api import snapshot
from stint.api.trainingjob import TrainingJob
from stint.cli import prices, quote, reconcile, replay, report, show, simulate, top, whatif
from stint.cli.sources import BROKEN_PROMISE, situation_of
from stint.decide import decide
from stint.errors import StintError
from stint.feeds import bundled
from stint.kube.client.api import Api, connect
from stint.lifecycle.phases import outcomes
from stint.model.job import Job, JobId, split_job_id
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
        sys.stdout.write(snapshot.encode_plan(replace(made, standing=None)).decode())
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
    if not matches and options.file is None and (resource := asyncio.run(_by_name(options.kubeconfig, wanted))):
        # It has ended, or its spec cannot be used: there is nothing to decide, and what is known of it stands there.
        if options.output == "json":
            sys.stdout.write(snapshot.canonical(resource.status).decode())
        else:
            show.standing(JobId(wanted), resource.status)
        return 0
    if len(matches) != 1:
        there = ", ".join(sorted(j.id for j in situation.jobs)) or "none"
        which = "is no job that has yet to end" if not matches else "is the name of several jobs; give NAMESPACE/NAME"
        raise StintError(f"{options.job} {which}; there are: {there}")
    job = matches[0]
    if options.output == "json":
        part = outcomes(made).get(job.id)
        sys.stdout.write(snapshot.canonical(part).decode())
    else:
        show.explanation(made, job)
        if job.assignment is not None and options.file is None:
            show.remembered(asyncio.run(_resource(options.kubeconfig, job)).status)
    return 0


async def _resource(kubeconfig: Path | None, job: Job) -> TrainingJob:
    """One TrainingJob; its status remembers why it was placed where it is."""
    namespace, name = split_job_id(job.id)
    async with Api(connect(kubeconfig)) as api:
        found = await api.get(f"/apis/stint.dev/v1alpha1/namespaces/{namespace}/trainingjobs/{name}")
    return msgspec.convert(found, TrainingJob)


async def _by_name(kubeconfig: Path | None, job: str) -> TrainingJob | None:
    """A TrainingJob that need not be there."""
    namespace, name = split_job_id(JobId(job))
    async with Api(connect(kubeconfig)) as api:
        found = await api.find(f"/apis/stint.dev/v1alpha1/namespaces/{namespace}/trainingjobs/{name}")
    return None if found is None else msgspec.convert(found, TrainingJob)


VERBS: Mapping[str, Callable[[argparse.Namespace], int]] = {
    "plan": plan,
    "explain": explain,
    "quote": quote.quote,
    "prices": prices.prices,
    "top": top.top,
    "report": report.spending,
    "reconcile": reconcile.reconcile,
    "simulate": simulate.simulate,
    "replay": replay.replay,
}
