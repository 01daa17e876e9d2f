from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from hack.bench.bookings import MemoryApi
from stint.api.ledger import Components, DaySpec, Ledger, Line, NodeRow, PriceStep, Row, Uses
from stint.controllers.bookkeeper import EPOCH, Account, Bookkeeper
from stint.controllers.daily_spend import DailySpends
from stint.feeds import bundled
from stint.kube.client.api import ApiError
from stint.kube.observe.snapshot import Caches, observe
from stint.ledger.days import MOST_ROWS, NodeSpan, book_nodes, fold, merge, resume, rows_of, whole
from stint.ledger.rates import Rates, Timeline
from stint.model.offering import OfferingId
from stint.model.situation import Settings
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_record, a_resource

DAY = NOW.date().isoformat()
HOUR = timedelta(hours=1)
CATALOGUE = bundled.load()


def a_line(usd: float, day: str = DAY, pool: str = "a100") -> Line:
    return Line(
        day=day,
        pool=pool,
        gpu_model="A100-80GB",
        capacity_type="spot",
        gpu_seconds=Uses(useful=3600.0 * usd),
        usd=Uses(useful=usd),
        components=Components(hardware=usd),
    )


def a_row(uid: str, usd: float, through: datetime = NOW) -> Row:
    return Row(job=f"job-{uid}", uid=uid, through=through, line=a_line(usd))


def an_account(uid: str, *lines: Line, through: datetime = NOW, **more: Any) -> Account:
    return Account(
        namespace="team",
        name=f"job-{uid}",
        uid=uid,
        team="vision",
        created=NOW,
        ledger=Ledger(lines=list(lines)),
        through=through,
        **more,
    )


class Fixture:
    def __init__(self, api: MemoryApi | None = None) -> None:
        self.api = api or MemoryApi()
        self.at = 0.0
        self.books = Bookkeeper(of=lambda at: at, catalogue=CATALOGUE)
        self.days = DailySpends(api=self.api, namespace="stint-system", books=self.books, clock=lambda: self.at)

    def keep(self, *accounts: Account) -> None:
        self.books.accounts = {a.uid: a for a in accounts}

    def rows(self) -> dict[str, float]:
        return {row.uid: row.line.total_usd for day in self.api.days() for row in day.rows}


class TestRows:
    async def test_they_are_set_and_not_added_to(self):
        fix = Fixture()
        for usd in (1.0, 3.0):
            fix.keep(an_account("u", a_line(usd), through=NOW + usd * HOUR))
            await fix.days.write(NOW)
            fix.at += 100
        (day,) = fix.api.days()
        assert (fix.rows(), day.usd, day.useful_percent, day.gpu_hours) == ({"u": 3.0}, "3.00", "100", "3.00")
        assert (day.rows[0].team, day.rows[0].job) == ("vision", "job-u")

    async def test_they_are_written_now_and_then_only(self):
        fix = Fixture()
        for minute in range(10):
            fix.at = minute * 10.0
            fix.keep(an_account("u", a_line(float(minute)), through=NOW + minute * HOUR))
            await fix.days.write(NOW)
        assert fix.rows() == {"u": 6.0}, "after a minute, not before"

    async def test_what_ends_is_written_soon_and_forgotten(self):
        fix = Fixture()
        fix.keep(an_account("u", a_line(1.0)))
        await fix.days.write(NOW)
        fix.at = 11
        fix.keep(an_account("u", a_line(2.0), through=NOW + HOUR, settled=True, open=False))
        await fix.days.write(NOW)
        assert (fix.rows(), fix.books.accounts) == ({"u": 2.0}, {})

    async def test_what_is_credited_at_the_end_is_written_though_no_time_has_passed(self):
        fix, line = Fixture(), a_line(1.0)
        fix.keep(an_account("u", line))
        await fix.days.write(NOW)
        fix.keep(an_account("u", msgspec.structs.replace(line, baseline_usd=7.0), settled=True, open=False))
        await fix.days.write(NOW)
        (day,) = fix.api.days()
        assert (day.rows[0].line.baseline_usd, fix.books.accounts) == (7.0, {})

    async def test_a_job_that_was_deleted_is_written_at_once_while_its_pods_leave(self):
        fix = Fixture()
        fix.keep(an_account("u", a_line(1.0)))
        await fix.days.write(NOW)
        fix.keep(an_account("u", a_line(2.0), through=NOW + HOUR, settled=True))
        await fix.days.write(NOW)
        assert fix.rows() == {"u": 2.0}

    async def test_a_day_that_is_past_and_written_is_summed_up_in_the_status(self):
        fix = Fixture()
        old = (NOW - timedelta(days=3)).date().isoformat()
        fix.keep(an_account("u", a_line(5.0, old), a_line(1.0)))
        await fix.days.write(NOW)
        ledger = fix.books.accounts["u"].ledger
        assert [line.day for line in ledger.lines] == [DAY]
        assert ledger.earlier is not None
        line = whole(ledger)
        assert line is not None
        assert (ledger.earlier.total_usd, line.total_usd) == (5.0, 6.0)

    async def test_another_operator_that_wrote_meanwhile_is_heeded(self):
        api = MemoryApi()
        one, two = Fixture(api), Fixture(api)
        one.keep(an_account("u", a_line(1.0)))
        await one.days.write(NOW)
        two.keep(an_account("u", a_line(4.0), through=NOW + HOUR), an_account("v", a_line(7.0)))
        await two.days.write(NOW)
        one.at = 100
        one.keep(an_account("u", a_line(2.0), through=NOW + HOUR / 2), an_account("w", a_line(3.0)))
        await one.days.write(NOW)
        assert one.rows() == {"u": 4.0, "v": 7.0, "w": 3.0}

    def test_a_thousand_fill_an_object_and_none_moves_to_another(self):
        parts = merge((), [a_row(f"u{i}", 1.0) for i in range(MOST_ROWS + 2)], DAY)
        assert [len(p.rows) for p in parts] == [MOST_ROWS, 2]
        again = merge(parts, [a_row("u3", 9.0, NOW + HOUR), a_row("new", 1.0)], DAY)
        assert [len(p.rows) for p in again] == [MOST_ROWS, 3]
        assert again[0].rows[3].line.total_usd == 9.0
        assert merge(again, [a_row("u3", 2.0, NOW)], DAY) == again


class Refusing(MemoryApi):
    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status

    async def create(self, path: str, _body: Any) -> Any:
        raise ApiError(self.status, "No", path)


@pytest.mark.parametrize("status", [403, 404, 422], ids=["no right", "not installed", "refused"])
async def test_where_they_cannot_be_written_it_is_said_and_nothing_is_lost_meanwhile(status):
    fix = Fixture(Refusing(status))
    fix.keep(an_account("u", a_line(1.0)))
    await fix.days.write(NOW)
    assert "DailySpends of namespace team cannot be written" in fix.days.absent
    line = whole(fix.books.accounts["u"].ledger)
    assert line is not None
    assert line.total_usd == 1.0
    fix.days.api = MemoryApi()
    await fix.days.write(NOW)
    assert fix.days.absent == ""


async def test_one_that_cannot_be_read_is_written_anew():
    fix = Fixture()
    path = "/apis/stint.dev/v1alpha1/namespaces/team/dailyspends"
    await fix.api.create(path, {"metadata": {"name": DAY, "namespace": "team"}, "spec": {"day": 7}})
    fix.keep(an_account("u", a_line(1.0)))
    await fix.days.write(NOW)
    assert fix.rows() == {"u": 1.0}


class Picky(MemoryApi):
    """One namespace's objects are answered with an error, to whoever writes them and, where told so, who reads them."""

    def __init__(self, status: int, namespace: str = "gone", *, reads: bool = False) -> None:
        super().__init__()
        self.status, self.namespace, self.reads = status, namespace, reads

    def _check(self, path: str) -> None:
        if f"/namespaces/{self.namespace}/" in path:
            raise ApiError(self.status, "No", path)

    async def find(self, path: str, **_: Any) -> Any | None:
        if self.reads:
            self._check(path)
        return await super().find(path)

    async def create(self, path: str, body: Any) -> Any:
        self._check(path)
        return await super().create(path, body)


@pytest.mark.parametrize("status", [400, 404, 500], ids=["a webhook denies", "no namespace", "a webhook is down"])
async def test_one_namespace_that_takes_none_is_no_other_namespaces_loss(status):
    fix = Fixture(Picky(status))
    gone = replace(an_account("x", a_line(9.0), settled=True, open=False), namespace="gone")
    late = an_account("v", a_line(2.0), settled=True, open=False)
    fix.keep(gone, an_account("u", a_line(1.0)))
    await fix.days.write(NOW)
    assert fix.rows() == {"u": 1.0}
    fix.books.accounts["v"] = late  # it ends while others are being written
    fix.days._tidy(NOW)
    assert "v" in fix.books.accounts
    await fix.days.write(NOW)
    assert fix.rows() == {"u": 1.0, "v": 2.0}


async def test_without_the_right_to_read_them_the_operator_works_on():
    fix = Fixture(Picky(403, "stint-system", reads=True))
    caches = Caches(trainingjobs=[], gpu_pools=[], price_books=[], nodes=[], pods=[], jobs=[])
    await fix.days.begin(observe(caches, CATALOGUE, Settings(), now=NOW, created={}, empty_since={}))
    fix.keep(an_account("u", a_line(1.0)))
    await fix.days.write(NOW)
    assert "DailySpends of namespace stint-system cannot be written" in fix.days.absent
    assert fix.rows() == {"u": 1.0}


async def test_one_that_somebody_has_deleted_is_written_again_before_a_job_is_forgotten():
    fix = Fixture()
    fix.keep(an_account("u", a_line(1.0)))
    await fix.days.write(NOW)
    fix.api.objects.clear()
    fix.keep(an_account("u", a_line(2.0), through=NOW + HOUR, settled=True, open=False))
    await fix.days.write(NOW)
    assert (fix.rows(), fix.books.accounts, fix.days.absent) == ({"u": 2.0}, {}, "")


async def test_old_days_are_deleted():
    fix = Fixture()
    for age in (1, 61, 63, 400):
        day = (NOW - timedelta(days=age)).date().isoformat()
        body = {"metadata": {"name": day, "namespace": "team"}, "spec": msgspec.to_builtins(DaySpec(day=day))}
        await fix.api.create("/apis/stint.dev/v1alpha1/namespaces/team/dailyspends", body)
    await fix.days.write(NOW)
    assert len(fix.api.days()) == 2


class TestNodes:
    def look(self, fix: Fixture, now: datetime, names: Sequence[str] = ("n1",)) -> None:
        caches = Caches(
            trainingjobs=[],
            gpu_pools=[],
            price_books=[],
            nodes=[a_record(n, created=NOW - HOUR) for n in names],
            pods=[],
            jobs=[],
        )
        self.seen = observe(caches, CATALOGUE, Settings(), now=now, created={}, empty_since={})
        fix.books.book(self.seen, caches, {}, known_until=now)
        fix.days.book_nodes(now)

    async def test_they_cost_whoever_has_them_and_across_a_restart(self):
        api = MemoryApi()
        first = Fixture(api)
        self.look(first, NOW)
        self.look(first, NOW + HOUR)
        await first.days.write(NOW + HOUR)
        self.look(first, NOW + 2 * HOUR)  # not written any more
        second = Fixture(api)
        await second.days.begin(self.seen)
        self.look(second, NOW + 3 * HOUR)
        await second.days.write(NOW + 3 * HOUR)
        (day,) = api.days()
        (row,) = day.nodes
        price = self.seen.situation.offerings[0].usd_per_node_hour
        assert price is not None
        assert (row.node_seconds, row.gpu_seconds) == (3 * 3600, 8 * 3 * 3600)
        assert row.usd == pytest.approx(3 * price.value)
        assert [step.usd_per_node_hour for step in day.prices] == [price.value]

    async def test_prices_of_nodes_that_are_no_more_stay_after_a_restart(self):
        fix = Fixture()
        step = PriceStep(offering="old/p5.48xlarge/us-east-1a/spot", since=NOW - HOUR, usd_per_node_hour=40.0)
        body = {
            "metadata": {"name": DAY, "namespace": "stint-system"},
            "spec": msgspec.to_builtins(DaySpec(day=DAY, prices=[step], through=NOW)),
        }
        await fix.api.create("/apis/stint.dev/v1alpha1/namespaces/stint-system/dailyspends", body)
        self.look(Fixture(), NOW + HOUR)
        await fix.days.begin(self.seen)
        self.look(fix, NOW + HOUR)
        await fix.days.write(NOW + HOUR)
        (day,) = fix.api.days()
        assert (day.prices[0], len(day.prices), len(day.nodes)) == (step, 2, 1)

    async def test_they_cost_also_while_nobody_was_there_for_days(self):
        api = MemoryApi()
        first = Fixture(api)
        self.look(first, NOW)
        self.look(first, NOW + HOUR)
        await first.days.write(NOW + HOUR)
        later = NOW + timedelta(days=5)
        second = Fixture(api)
        self.look(Fixture(), later)
        await second.days.begin(self.seen)
        self.look(second, later)
        await second.days.write(later)
        rows = [row for day in api.days() for row in day.nodes]
        assert sum(row.node_seconds for row in rows) == 5 * 24 * 3600
        assert len(rows) == 6

    def test_one_costs_until_it_is_gone_and_days_are_told_apart(self):
        timeline, offering = Timeline(), OfferingId("p/m/z/spot")
        timeline.learn({offering: Rates(pool="p", gpu_model="L4", capacity_type="spot", usd_per_hour=2.0)}, NOW)
        spans = [NodeSpan(offering=offering, gpus=4.0, start=NOW, end=NOW + 30 * HOUR)]
        rows = book_nodes({}, spans, timeline, start=NOW, until=NOW + 90 * HOUR)
        assert sum(row.usd for row in rows.values()) == pytest.approx(60.0)
        assert len(rows) == 2
        assert isinstance(next(iter(rows.values())), NodeRow)


class TestResuming:
    @pytest.mark.parametrize("age", [timedelta(), timedelta(days=5)])
    async def test_rows_are_known_also_of_a_job_whose_place_is_gone_and_after_days(self, age):
        fix = Fixture()
        row = a_row("u", 4.0, NOW + HOUR)
        spec = DaySpec(day=DAY, rows=[row])
        body = {"metadata": {"name": DAY, "namespace": "team"}, "spec": msgspec.to_builtins(spec)}
        await fix.api.create("/apis/stint.dev/v1alpha1/namespaces/team/dailyspends", body)
        resource = a_resource({"phase": "Running", "spentThrough": NOW.isoformat()})
        caches = Caches(trainingjobs=[resource], gpu_pools=[], price_books=[], nodes=[], pods=[], jobs=[])
        seen = observe(caches, CATALOGUE, Settings(), now=NOW + age, created={"u": NOW - HOUR}, empty_since={})
        await fix.days.begin(seen)
        assert fix.books.kept == {"u": [row]}

    def test_rows_that_know_more_than_the_status_go_before_it(self):
        status = Ledger(lines=[a_line(1.0)])
        ledger, through = resume(status, NOW, [a_row("u", 4.0, NOW + HOUR)])
        line = whole(ledger)
        assert line is not None
        assert (line.total_usd, through) == (4.0, NOW + HOUR)
        assert resume(status, NOW + 2 * HOUR, [a_row("u", 4.0, NOW + HOUR)]) == (status, NOW + 2 * HOUR)
        assert resume(status, NOW, []) == (status, NOW)

    def test_unless_a_day_that_is_past_is_not_written_to_its_end(self):
        yesterday = (NOW - timedelta(days=1)).date().isoformat()
        begun = Row(job="j", uid="u", through=NOW - timedelta(days=1), line=a_line(2.0, yesterday))
        status = Ledger(lines=[a_line(1.0, yesterday)])
        assert resume(status, EPOCH, [begun, a_row("u", 4.0)]) == (status, EPOCH)

    def test_a_day_of_which_nothing_is_written_yet_is_booked_from_its_beginning(self):
        yesterday, midnight = (NOW - timedelta(days=1)).date().isoformat(), NOW.replace(hour=0, minute=0)
        row = Row(job="j", uid="u", through=midnight + HOUR, line=a_line(2.0, yesterday))
        ledger, through = resume(Ledger(lines=[a_line(1.0, yesterday)]), midnight - HOUR, [row])
        assert ([line.total_usd for line in ledger.lines], through) == ([2.0], midnight)

    def test_what_data_has_cost_to_move_is_not_booked_again(self):
        moved = Ledger(lines=[a_line(3.0)], moved_for=NOW)
        (rows,) = rows_of(moved, job="j", uid="u", team="", through=NOW + HOUR).values()
        assert resume(Ledger(), NOW, rows) == (moved, NOW + HOUR)

    def test_folding_twice_is_folding_once(self):
        old = (NOW - timedelta(days=3)).date().isoformat()
        once = fold(Ledger(lines=[a_line(1.0, old), a_line(2.0)]), [old])
        assert fold(once, [old]) == once
