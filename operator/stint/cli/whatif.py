"""`stint plan` with changes: today's plan and the changed one side by side."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

import msgspec
from rich.console import Console

from stint.api import snapshot
from stint.cli import tables
from stint.cli.sources import BROKEN_PROMISE
from stint.decide import decide
from stint.estimate.runtime import hours_between
from stint.model.market import PoolName
from stint.model.offering import OfferingId
from stint.model.plan import Plan
from stint.model.situation import Situation
from stint.sim.policies import POLICIES
from stint.whatif.changes import Change, apply
from stint.whatif.compare import Both, Fate, Total, fates, side_by_side, total
from stint.whatif.promises import Broken, broken_promises
from stint.whatif.written import Written

_HOURS = 0.05  # that are shown


class _Comparison(msgspec.Struct, kw_only=True):
    """For machines."""

    before: Plan
    after: Plan
    jobs: tuple[Both, ...]
    total_before: Total
    total_after: Total
    broken_before: tuple[Broken, ...]
    broken_after: tuple[Broken, ...]


def add_options(plan: argparse.ArgumentParser) -> None:
    """Of `stint plan`."""
    what_if = plan.add_argument_group("what if", "two plans side by side: as things are, and with these changes")
    for name, form, text in (
        (
            "--add-pool",
            "[NAME=]TYPE:NODES@ZONE[:CAPACITY]",
            "nodes that could be bought (owned, reserved: stand there)",
        ),
        ("--drop-pool", "POOL", "without its nodes; who runs there waits again"),
        ("--price", "WHAT=USD", "of a node-hour, or =xFACTOR; WHAT: pool, offering, TYPE, TYPE:CAPACITY"),
        ("--deadline", "JOB=TIME", "with its zone, or a duration from now as 24h, or none"),
        ("--budget", "JOB=USD", "or none"),
    ):
        what_if.add_argument(name, metavar=form, action="append", default=[], help=f"{text}; may be given again")
    what_if.add_argument("--policy", choices=POLICIES, help="who makes the changed plan, as in `stint simulate`")


def written_in(options: argparse.Namespace) -> Written:
    """What the options of `add_options` say."""
    return Written(
        add_pool=options.add_pool,
        drop_pool=options.drop_pool,
        price=options.price,
        deadline=options.deadline,
        budget=options.budget,
    )


def compared(options: argparse.Namespace, situation: Situation, made: Plan, changes: Sequence[Change]) -> int:
    """Decide again with the changes, show both; the exit code is that of the changed plan."""
    changed = apply(situation, changes)
    after = POLICIES[options.policy](changed) if options.policy else decide(changed)
    before_fates, after_fates = fates(situation, made), fates(changed, after)
    comparison = _Comparison(
        before=made,
        after=after,
        jobs=side_by_side(before_fates, after_fates),
        total_before=total(before_fates.values()),
        total_after=total(after_fates.values()),
        broken_before=broken_promises(situation, made),
        broken_after=broken_promises(changed, after),
    )
    if options.output == "json":
        sys.stdout.write(snapshot.canonical(comparison).decode())
    else:
        _show(comparison, {o.id: o.pool for o in (*situation.offerings, *changed.offerings)}, situation.now)
    return BROKEN_PROMISE if comparison.broken_after else 0


def _show(c: _Comparison, pools: Mapping[OfferingId, PoolName], now: datetime) -> None:
    out = tables.console()
    right = ("$ NOW", "$ THEN", "MORE $", "MORE H")
    columns = ("JOB", "NOW", "STARTS", "DONE", "$ NOW", "THEN", "STARTS", "DONE", "$ THEN", "MORE $", "MORE H")
    table = tables.table(*columns, right=right)
    several = {pool for pool, count in Counter(pools.values()).items() if count > 1}
    short = {o: o if pool in several else pool for o, pool in pools.items()}
    for both in c.jobs:
        same = both.before is not None and both.after is not None and both.before.where == both.after.where
        where, *rest = _cells(both.after, short, now)
        more = _signed(both.usd, 2), _signed(both.hours, 1)
        table.add_row(both.job, *_cells(both.before, short, now), "the same" if same else where, *rest, *more)
    out.print(table if table.row_count else "No jobs.")
    _tell(out, "now ", c.total_before, c.broken_before, now)
    _tell(out, "then", c.total_after, c.broken_after, now)
    if c.total_before.without_place != c.total_after.without_place:
        out.print("not the same jobs have a place in sight, so the sums cannot be compared")
        return
    saved = c.total_before.usd - c.total_after.usd
    last_before, last_after = c.total_before.last_finish, c.total_after.last_finish
    hours = hours_between(last_after, last_before) if last_before and last_after else 0.0
    when = f", and all are done {abs(hours):.1f} h {'sooner' if hours > 0 else 'later'}" if abs(hours) >= _HOURS else ""
    out.print(f"the change {'saves' if saved >= 0 else 'costs'} {tables.usd(abs(saved))} USD{when}")


def _cells(fate: Fate | None, short: Mapping[OfferingId, str], now: datetime) -> tuple[str, str, str, str]:
    """Offering, start, end and cost."""
    if fate is None or fate.where is None:
        return ("-" if fate is None else fate.decision, "-", "-", "-")
    start = "runs" if fate.decision == "stay" else tables.when(fate.start, now)
    return short[fate.where], start, tables.when(fate.finish, now), tables.usd(fate.usd)


def _signed(amount: float | None, digits: int) -> str:
    if amount is None:
        return "-"
    return f"{amount:+,.{digits}f}" if abs(amount) >= 0.5 * 10**-digits else ""


def _tell(out: Console, when: str, of: Total, broken: Sequence[Broken], now: datetime) -> None:
    nowhere = f"; {of.without_place} without a place in sight" if of.without_place else ""
    promises = f"{len(broken)} promises do not hold" if broken else "every deadline and budget holds"
    done = tables.when(of.last_finish, now)
    out.print(f"{when}: {tables.usd(of.usd)} USD, the last one done {done}; {promises}{nowhere}")
    for b in broken:
        out.print(f"      {b.job}: {b.promise}: {b.message}")
