"""`stint quote`: when a job would start and be done, where, for how much, and how sure that is; it is not submitted."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from stint.api import snapshot
from stint.api.parse.job import Known, to_job
from stint.api.trainingjob import TrainingJob
from stint.cli import manifests, tables
from stint.cli.manifests import API, KIND
from stint.cli.sources import BROKEN_PROMISE, situation_of
from stint.decide import decide
from stint.errors import InvalidInputError, Mistake, StintError
from stint.feeds import bundled
from stint.kube.client.api import Api, ApiError, connect
from stint.model.plan import Hold
from stint.whatif.compare import Both
from stint.whatif.odds import LIKELY
from stint.whatif.quote import Quote, Quoted
from stint.whatif.quote import quote as quote_of

_MOST_OTHERS = 8
_QUOTED = "quoted:"  # begins the uid of a job that is not there


def quote(options: argparse.Namespace) -> int:
    """`stint quote JOB.yaml`"""
    documents = _documents(options.job)
    resources = [_read(d, i, options.namespace) for i, d in enumerate(documents, 1)]
    if options.file is None:
        asyncio.run(_dry_run(options.kubeconfig, documents, resources))
    situation = situation_of(options, besides=resources)
    jobs = [to_job(r, bundled.load(), Known(), created=situation.now) for r in resources]
    uids = {j.uid for j in jobs}  # from a cluster they are among its jobs, and nodes have the labels that they ask for
    there = replace(situation, jobs=tuple(j for j in situation.jobs if j.uid not in uids))
    quoted = quote_of(there, jobs, decide)
    if options.output == "json":
        sys.stdout.write(snapshot.canonical(quoted).decode())
    else:
        _show(quoted)
    kept = all(not q.broken and q.part.chosen is not None for q in quoted.quotes)
    return 0 if kept else BROKEN_PROMISE


def _documents(file: Path) -> list[dict[str, Any]]:
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise StintError(f"{file}: {error}") from error
    found = manifests.documents(text, name=str(file))
    wrong = [
        Mistake(f"document {i}", str(d)[:60], f"must be a {KIND} of apiVersion {API}")
        for i, d in enumerate(found, 1)
        if not isinstance(d, dict) or (d.get("apiVersion"), d.get("kind")) != (API, KIND)
    ]
    if not found:
        wrong = [Mistake("the file", "no document", f"must hold a {KIND}")]
    if wrong:
        raise InvalidInputError(str(file), wrong)
    return found


def _read(document: dict[str, Any], number: int, namespace: str) -> TrainingJob:
    resource = manifests.training_job(document, number=number, namespace=namespace)
    meta = msgspec.structs.replace(resource.metadata, uid=f"{_QUOTED} {number}")
    return msgspec.structs.replace(resource, metadata=meta)


async def _dry_run(kubeconfig: Path | None, documents: list[dict[str, Any]], jobs: list[TrainingJob]) -> None:
    """Have the API server say what it thinks of each: schema, rules, quotas, webhooks; it stores nothing."""
    async with Api(connect(kubeconfig)) as api:
        for document, resource in zip(documents, jobs, strict=True):
            path = f"/apis/{API}/namespaces/{resource.metadata.namespace}/trainingjobs"
            try:
                await api.rehearse(path, document)
            except ApiError as error:
                where = f"{resource.metadata.namespace}/{resource.metadata.name}"
                mistake = Mistake(f"{where}", f"{error.status} {error.reason}", error.message)
                raise InvalidInputError("the API server would refuse it, which", [mistake]) from error


def _show(quoted: Quoted) -> None:
    out, now = tables.console(), quoted.plan.decided_at
    for q in quoted.quotes:
        _tell(out, q, now)
    if quoted.others:
        out.print(f"It would change something for {len(quoted.others)} jobs that are there already:")
        table = tables.table("JOB", "DONE", "WOULD BE", "DIFFERENCE $", right=("DIFFERENCE $",))
        for both in sorted(quoted.others, key=lambda b: -(b.usd or 0.0))[:_MOST_OTHERS]:
            table.add_row(both.job, *_done(both, now), "-" if both.usd is None else f"{both.usd:+,.2f}")
        out.print(table)
    for b in quoted.others_broken:
        out.print(f"{b.job} would have its {b.promise} broken: {b.message}")


def _done(both: Both, now: datetime) -> tuple[str, str]:
    return tuple(tables.when(f.finish if f else None, now) for f in (both.before, both.after))  # type: ignore[return-value]


def _tell(out: Console, q: Quote, now: datetime) -> None:
    c = q.part.chosen
    if c is None or q.odds is None or q.offering is None:
        assert isinstance(q.part, Hold)
        out.print(f"{q.job.id} would have no place in sight: {q.part.reason.value}: {q.part.message}")
        return
    new = f", {c.new_nodes} of its nodes bought for it" if c.new_nodes else ""
    out.print(f"{q.job.id} would run on {c.workers} workers of {c.offering}{new}")
    table = tables.table("", "EXPECTED", f"{LIKELY:.0%} ARE NOT ABOVE", "AT BEST")
    early, late = q.odds.finish
    table.add_row("starts", tables.when(c.start, now), "", "")
    table.add_row("done", tables.when(c.finish, now), tables.when(late, now), tables.when(early, now))
    low, high = (tables.usd(v) for v in q.odds.usd)
    table.add_row("USD to finish", tables.usd(c.cost.usd), high, low)
    table.add_row("USD/h", tables.usd(c.usd_per_hour), "", "")
    out.print(table)
    for line in _grounds(q, now):
        out.print(f"  {line}")
    if isinstance(q.part, Hold):
        out.print(f"  {q.part.reason.value}: {q.part.message}")
    best = q.part.explanation.runner_up
    if best is not None:
        out.print(
            f"  next best: {best.offering}, {tables.usd(best.cost.usd)} USD, done {tables.when(best.finish, now)}"
        )
    for b in q.broken:
        out.print(f"  its {b.promise} would not hold: {b.message}")


def _grounds(q: Quote, now: datetime) -> Iterator[str]:
    """What the quote rests on."""
    assert q.part.chosen is not None
    assert q.offering is not None
    assert q.odds is not None
    price = q.offering.usd_per_node_hour
    if price is not None:
        age = price.age_days(now.date())
        old = "of unknown age" if age is None else f"{age:.0f} days old"
        yield f"price: {tables.usd(price.value)} USD/h a node: {price.confidence.value}, {old} ({price.source})"
        if "price" in q.offering.stale and age is not None:
            yield "price: that is older than the price book allows"
    if q.offering.interruptions_per_hour is not None:
        figure = q.offering.interruptions_per_hour
        yield (
            f"interruptions: one in {1 / figure.value:,.0f} h a node ({figure.confidence.value}): undisturbed in "
            f"{q.odds.undisturbed:.0%} of all runs"
            if figure.value > 0
            else "interruptions: none are expected"
        )
    yield "speed: as the job says it, in spec.work.unitsPerSecond"
    if q.part.chosen.start > now and not q.part.chosen.new_nodes:
        yield "start: when gangs that run or go before it are done, by their own speeds"
