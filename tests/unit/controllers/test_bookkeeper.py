from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from stint.api.ledger import Ledger, Line
from stint.api.meta import Meta
from stint.api.pricebook import Labour, Licence, Price, PriceBook
from stint.api.pricebook import Spec as BookSpec
from stint.api.trainingjob import TrainingJob
from stint.controllers.bookkeeper import EPOCH, Bookkeeper, clock_wrong, known_until
from stint.feeds import bundled
from stint.kube.observe.memory import Memory
from stint.kube.observe.snapshot import Caches, Spending, observe, with_what_was_seen
from stint.kube.records import JobRecord, NodeRecord, PodRecord, Times
from stint.ledger.days import whole
from stint.model.cluster import Utilisation
from stint.model.job import JobId, job_id
from stint.model.situation import Settings
from stint.testing.builders import NOW
from tests.unit.kube.objects import a_batch_job, a_gang_pod, a_plan, a_record, a_resource

CATALOGUE = bundled.load()
UNET = job_id("team", "unet")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def a_book(usd: float | None, **more: Any) -> PriceBook:
    prices = [] if usd is None else [Price(provider="aws", instance_type="p4de.24xlarge", usd_per_node_hour=usd)]
    return PriceBook(metadata=Meta(name="b", uid="b"), spec=BookSpec(prices=prices, as_of="2026-01-01", **more))


def worker(index: int, *, phase: str = "Running", node: str = "n1", **times: datetime) -> PodRecord:
    """Half of an eight-GPU node."""
    pod = a_gang_pod(index, node=node, phase=phase, gated=False)
    assert pod.gang is not None
    return msgspec.structs.replace(pod, gang=msgspec.structs.replace(pod.gang, times=Times(**times)))


def two(bound: datetime, works: datetime | None, **more: Any) -> list[PodRecord]:
    return [worker(i, bound=bound, works=works, **more) if works else worker(i, bound=bound, **more) for i in range(2)]


class Books:
    """A bookkeeper, with the world it sees handed in look by look."""

    def __init__(self, resource: TrainingJob | None = None) -> None:
        self.counted: list[Line] = []
        self.resource = resource or a_resource()
        self.restart()

    def restart(self, counted_until: datetime = EPOCH) -> None:
        def count(_namespace: str, line: Line) -> None:
            self.counted.append(line)

        self.books = Bookkeeper(of=lambda at: at, catalogue=CATALOGUE, count=count)
        self.books.begin(counted_until)

    def look(
        self,
        now: datetime,
        pods: Sequence[PodRecord] = (),
        *,
        usd: float | None = 10.0,
        jobs: Sequence[JobRecord] | None = None,
        usage: dict[JobId, Utilisation] | None = None,
        resources: Sequence[TrainingJob] | None = None,
        until: datetime | None = None,
        nodes: Sequence[NodeRecord] | None = None,
        memory: Memory | None = None,
        **more: Any,
    ) -> dict[JobId, Spending]:
        caches = Caches(
            trainingjobs=[self.resource] if resources is None else resources,
            gpu_pools=[],
            price_books=[a_book(usd, **more)],
            nodes=[a_record(created=NOW - 9 * HOUR)] if nodes is None else nodes,
            pods=pods,
            jobs=[a_batch_job()] if jobs is None else jobs,
        )
        created = {r.metadata.uid: NOW - 9 * HOUR for r in caches.trainingjobs}
        seen = observe(caches, CATALOGUE, Settings(), now=now, created=created, empty_since={}, memory=memory)
        self.memory = with_what_was_seen(memory or Memory(), seen, caches)
        return self.books.book(seen, caches, usage or {}, known_until=until or now)

    def write(self, spending: Spending) -> None:
        """As the operator writes a status."""
        status = {
            "spentExactly": spending.settled_usd,
            "spentThrough": spending.through.isoformat() if spending.through else None,
            "ledger": msgspec.to_builtins(spending.ledger),
        }
        self.resource = a_resource(status)


def uses(spending: Spending) -> dict[str, float]:
    """GPU-hours by use, where there are any."""
    line = whole(spending.ledger)
    assert line is not None
    return {u: s / 3600 for u, s in msgspec.structs.asdict(line.gpu_seconds).items() if s}


class TestUses:
    def test_a_worker_starts_up_waits_for_its_gang_and_works(self):
        books = Books()
        pods = [
            worker(0, bound=NOW, works=NOW + 15 * MINUTE),
            worker(1, bound=NOW, works=NOW + 30 * MINUTE),
        ]
        spent = books.look(NOW + HOUR, pods)[UNET]
        assert uses(spent) == {"startup": 4 * 0.25 + 4 * 0.5, "held": 4 * 0.25, "useful": 8 * 0.5}
        assert spent.usd == pytest.approx(10.0), "each has half of the node, for an hour"

    def test_a_worker_that_has_finished_is_held_until_its_gang_has(self):
        done = {"phase": "Succeeded", "bound": NOW, "works": NOW}
        pods = [worker(0, **done, end=NOW + HOUR), worker(1, **done, end=NOW + 2 * HOUR)]
        spent = Books().look(NOW + 5 * HOUR, pods, jobs=[a_batch_job(complete=True)])[UNET]
        assert uses(spent) == {"useful": 8 + 4, "held": 4}
        assert (spent.usd, spent.ledger.closed) == (pytest.approx(20.0), True)

    def test_one_that_is_asked_to_leave_works_no_more(self):
        pods = two(NOW, NOW, leaving=NOW + 30 * MINUTE, end=NOW + HOUR, phase="Failed")
        spent = Books().look(NOW + 2 * HOUR, pods, jobs=[a_batch_job(suspended=True)])[UNET]
        assert uses(spent) == {"useful": 4, "held": 4}

    def test_idle_is_what_was_measured_and_unknown_is_not(self):
        books, pods = Books(), two(NOW, NOW)
        idle = {UNET: Utilisation(job=UNET, gpu_ratio=0.1, watts=None, idle_gpus=6, gpus=8)}
        part = {UNET: Utilisation(job=UNET, gpu_ratio=0.1, watts=None, idle_gpus=4, gpus=4)}
        books.look(NOW + HOUR, pods, usage=idle)
        books.look(NOW + 2 * HOUR, pods, usage=part)
        spent = books.look(NOW + 3 * HOUR, pods)[UNET]
        assert uses(spent) == {"useful": 2 + 8 + 8, "idle": 6}
        line = whole(spent.ledger)
        assert line is not None
        assert line.measured_gpu_seconds == 8 * 3600

    def test_lost_work_is_done_again_and_told_apart(self):
        books, pods = Books(), two(NOW, NOW)
        books.look(NOW, pods)
        assert books.books.owe("u", 1800.0) is not None  # at one a second
        spent = books.look(NOW + HOUR, pods)[UNET]
        assert uses(spent) == {"rework": 4, "useful": 4}
        assert spent.ledger.rework_units == 0

    def test_energy_is_as_measured_where_it_is_and_as_known_of_the_machine_where_not(self):
        spent = Books().look(NOW + HOUR, two(NOW, NOW))[UNET]
        measured = {UNET: Utilisation(job=UNET, gpu_ratio=0.5, watts=1000.0, idle_gpus=0)}
        less = Books().look(NOW + HOUR, two(NOW, NOW), usage=measured)[UNET]
        by_table, by_meter = whole(spent.ledger), whole(less.ledger)
        assert by_table is not None
        assert by_meter is not None
        assert 1.0 < by_meter.energy_kwh < by_table.energy_kwh
        assert by_meter.carbon_g == pytest.approx(by_table.carbon_g * by_meter.energy_kwh / by_table.energy_kwh)


class TestAGangThatStartedInPart:
    """Of two workers one runs after ten minutes, the other never does, and an hour after both were bound it is over."""

    ENDS = ("leaves", "fails", "is lost", "is gone")

    def over(self, how: str) -> tuple[list[PodRecord], list[JobRecord]]:
        """Its pods and its Job after the end."""
        end = NOW + HOUR
        if how == "fails":
            ends = [{"works": NOW + 10 * MINUTE, "end": end}, {"end": end}]
            return [worker(i, phase="Failed", bound=NOW, **t) for i, t in enumerate(ends)], [
                a_batch_job(failed_message="a worker failed")
            ]
        return [], [a_batch_job(suspended=how == "leaves")] if how != "is gone" else []

    @pytest.mark.parametrize("how", ENDS)
    @pytest.mark.parametrize("killed", [False, True], ids=["", "killed"])
    def test_costs_startup_and_held_and_is_never_useful(self, how, killed):
        books = Books()
        starts = [worker(0, bound=NOW, works=NOW + 10 * MINUTE), worker(1, bound=NOW, phase="Pending")]
        books.write(books.look(NOW + 5 * MINUTE, starts)[UNET])
        if killed:
            books.restart()
        going = starts
        if how == "leaves":
            asked = NOW + 50 * MINUTE
            going = [
                worker(0, bound=NOW, works=NOW + 10 * MINUTE, leaving=asked),
                worker(1, bound=NOW, phase="Pending", leaving=asked),
            ]
        books.look(NOW + 59 * MINUTE, going, jobs=[] if killed else [a_batch_job()])  # its plan may be gone first
        pods, jobs = self.over(how)
        if how != "fails":
            for pod in going:
                books.books.gone(pod, NOW + HOUR)
        spent = books.look(NOW + 2 * HOUR, pods, jobs=jobs)[UNET]
        late = 10 / 60 if how == "leaves" else 0.0
        assert uses(spent) == pytest.approx({"startup": 4 * (1 / 6 + 1 - late), "held": 4 * (5 / 6 + late)})
        assert spent.usd == pytest.approx(10.0)


class TestOnce:
    def test_however_often_it_is_looked_at_an_hour_costs_an_hour(self):
        books, pods = Books(), two(NOW, NOW)
        for minute in (0, 1, 1, 17, 3, 60):
            spent = books.look(NOW + minute * MINUTE, pods)[UNET]
        assert spent.usd == pytest.approx(10.0)

    def test_who_begins_anew_goes_on_from_what_the_status_says(self):
        books, pods = Books(), two(NOW, NOW)
        books.write(books.look(NOW + HOUR, pods)[UNET])
        books.look(NOW + 2 * HOUR, pods)  # and is killed before that is written
        books.restart()
        ended = two(NOW, NOW, phase="Succeeded", end=NOW + 3 * HOUR)
        spent = books.look(NOW + 9 * HOUR, ended, jobs=[a_batch_job(complete=True)])[UNET]
        assert spent.usd == pytest.approx(30.0), "it ended while nobody looked, and that is when it ended"

    def test_a_clock_that_goes_back_books_nothing(self):
        books, pods = Books(), two(NOW, NOW)
        books.look(NOW + 2 * HOUR, pods)
        spent = books.look(NOW + HOUR, pods)[UNET]
        assert (spent.usd, spent.through) == (pytest.approx(20.0), NOW + 2 * HOUR)

    def test_a_clock_that_has_jumped_ahead_books_nothing_either(self):
        assert known_until(NOW + 9 * HOUR, NOW, 0.0) == NOW - timedelta(seconds=2)
        assert known_until(NOW, NOW + 9 * HOUR, 0.0) == NOW - timedelta(seconds=2)
        assert known_until(NOW, None, 30.0) == NOW - timedelta(seconds=30)
        assert "is 32400 s ahead of the API server's" in clock_wrong(NOW + 9 * HOUR, NOW)
        assert "is 60 s behind the API server's" in clock_wrong(NOW, NOW + MINUTE)
        assert clock_wrong(NOW, NOW + timedelta(seconds=2)) == clock_wrong(NOW, None) == ""

    def test_what_was_not_told_yet_is_shown_and_not_booked(self):
        books, pods = Books(), two(NOW, NOW)
        spent = books.look(NOW + HOUR, pods, until=NOW + 30 * MINUTE)[UNET]
        assert (spent.settled_usd, spent.usd) == (pytest.approx(5.0), pytest.approx(10.0))
        ended = two(NOW, NOW, phase="Failed", end=NOW + 45 * MINUTE)
        assert books.look(NOW + 2 * HOUR, ended)[UNET].usd == pytest.approx(7.5)

    def test_of_two_operators_the_one_that_knows_more_counts(self):
        """The other has written a status meanwhile."""
        books, pods = Books(), two(NOW, NOW)
        other = Books()
        books.look(NOW + HOUR, pods)
        books.write(other.look(NOW + 2 * HOUR, pods)[UNET])
        assert books.look(NOW + 3 * HOUR, pods)[UNET].usd == pytest.approx(30.0)

    def test_metrics_count_what_the_leader_before_did_not(self):
        books, pods = Books(), two(NOW, NOW)
        books.restart(counted_until=NOW + HOUR)
        spent = books.look(NOW + 3 * HOUR, pods)[UNET]
        assert spent.usd == pytest.approx(30.0)
        assert sum(line.total_usd for line in books.counted) == pytest.approx(20.0)


class TestPods:
    def test_one_that_goes_without_a_word_costs_until_it_went(self):
        books, pods = Books(), two(NOW, NOW)
        books.look(NOW + HOUR, pods)
        for pod in pods:
            books.books.gone(pod, NOW + 90 * MINUTE)
        spent = books.look(NOW + 3 * HOUR)[UNET]
        assert (spent.usd, spent.pressing) == (pytest.approx(15.0), True)
        books.write(spent)
        again = books.look(NOW + 4 * HOUR)[UNET]
        assert (again.usd, again.pressing) == (pytest.approx(15.0), False)

    def test_one_that_its_kubelet_refuses_costs_nothing_from_then_on(self):
        """It is told with a phase and a reason, and every condition that it had is gone."""
        books = Books()
        books.look(NOW, two(NOW, None))
        refused = [worker(i, phase="Failed") for i in range(2)]
        for hours in (1, 2):
            spent = books.look(NOW + hours * HOUR, refused)[UNET]
        for pod in refused:
            books.books.gone(pod, NOW + 5 * HOUR)
        assert (spent.usd, books.look(NOW + 5 * HOUR)[UNET].usd) == (0.0, 0.0)

    def test_one_on_a_node_whose_clock_is_ahead_costs_until_its_end_was_told(self):
        books = Books()
        books.look(NOW + HOUR, two(NOW, NOW))
        pods = two(NOW, NOW, end=NOW + 7 * HOUR, phase="Failed")
        for hours in (2, 3):
            told = [msgspec.structs.replace(pod) for pod in pods]
            spent = books.look(NOW + hours * HOUR, told)[UNET]
        assert spent.usd == pytest.approx(20.0)
        again = [worker(i, bound=NOW + 3 * HOUR, works=NOW + 3 * HOUR) for i in range(2)]
        for i, pod in enumerate(again):
            again[i] = msgspec.structs.replace(pod, uid=f"again-{i}")
        assert books.look(NOW + 4 * HOUR, [*pods, *again])[UNET].usd == pytest.approx(30.0)

    def test_a_standby_does_not_remember_for_ever_what_has_gone(self):
        books = Books().books
        for day in range(30):
            books.gone(worker(0, bound=NOW), NOW + timedelta(days=day))
            books.gone(a_record(), NOW + timedelta(days=day))
        assert (len(books._gone_pods), len(books._gone_nodes)) == (2, 2)

    def test_news_that_comes_twice_counts_once(self):
        books, pods = Books(), two(NOW, NOW)
        for _ in range(2):
            for pod in pods:
                books.books.gone(pod, NOW + HOUR)
        assert books.look(NOW + 3 * HOUR)[UNET].usd == pytest.approx(10.0)

    def test_one_that_has_no_node_yet_costs_nothing(self):
        assert Books().look(NOW + HOUR, [a_gang_pod(i) for i in range(2)])[UNET].usd == 0.0

    def test_a_job_that_is_deleted_is_booked_to_its_end(self):
        books, pods = Books(), two(NOW, NOW)
        books.look(NOW + HOUR, pods)
        books.look(NOW + 2 * HOUR, pods, resources=[], jobs=[])
        for pod in pods:
            books.books.gone(pod, NOW + 150 * MINUTE)
        books.look(NOW + 5 * HOUR, resources=[], jobs=[])
        account = books.books.accounts["u"]
        line = whole(account.ledger)
        assert line is not None
        assert (line.total_usd, account.settled, account.open) == (pytest.approx(25.0), True, False)

    def test_what_an_earlier_job_of_its_name_left_behind_is_not_its_own(self):
        books, pods = Books(), two(NOW, NOW)
        books.look(NOW + HOUR, pods)
        meta = {"name": "unet", "namespace": "team", "uid": "v", "creationTimestamp": (NOW + HOUR).isoformat()}
        new = msgspec.convert(
            {"metadata": meta, "spec": msgspec.to_builtins(books.resource.spec), "status": {}}, TrainingJob
        )
        spent = books.look(NOW + 2 * HOUR, pods, resources=[new], jobs=[])[UNET]
        assert spent.usd == 0.0
        line = whole(books.books.accounts["u"].ledger)
        assert line is not None
        assert line.total_usd == pytest.approx(20.0)

    def test_nor_after_a_restart_that_knows_of_the_earlier_job_only_by_its_pods(self):
        meta = {"name": "unet", "namespace": "team", "uid": "v", "creationTimestamp": (NOW + HOUR).isoformat()}
        books, pods = Books(), two(NOW, NOW)
        new = msgspec.convert(
            {"metadata": meta, "spec": msgspec.to_builtins(books.resource.spec), "status": {}}, TrainingJob
        )
        for hours in (2, 3):
            spent = books.look(NOW + hours * HOUR, pods, resources=[new], jobs=[])[UNET]
        assert spent.usd == 0.0

    def test_work_that_was_credited_before_a_kill_is_not_credited_again(self):
        """Its row was written, and no status yet that had the baseline."""
        line = {"day": "2026-01-01", "pool": "p", "gpuModel": "m", "capacityType": "spot", "baselineUsd": 1.0}
        status = {"spentThrough": NOW.isoformat(), "ledger": {"lines": [line]}}
        ledger = Books(a_resource(status)).look(NOW + HOUR)[UNET].ledger
        assert ledger.baseline_usd is not None
        assert ledger.baseline_done == pytest.approx(1.0 / ledger.baseline_usd)


class TestPrices:
    def test_a_price_holds_from_when_it_is_known(self):
        books, pods = Books(), two(NOW, NOW)
        books.look(NOW + HOUR, pods, usd=10.0)
        books.look(NOW + 2 * HOUR, pods, usd=40.0)
        spent = books.look(NOW + 3 * HOUR, pods, usd=40.0)[UNET]
        assert spent.usd == pytest.approx(10.0 + 10.0 + 40.0)

    def test_without_a_price_it_costs_nothing_and_says_so(self):
        books = Books()
        bare = msgspec.structs.replace(a_record(created=NOW - HOUR), labels={"nvidia.com/gpu.product": "NVIDIA-L4"})
        pods, record = two(NOW, NOW), bare
        caches = Caches(
            trainingjobs=[books.resource],
            gpu_pools=[],
            price_books=[],
            nodes=[record],
            pods=pods,
            jobs=[a_batch_job()],
        )
        seen = observe(caches, CATALOGUE, Settings(), now=NOW + HOUR, created={"u": NOW}, empty_since={})
        spent = books.books.book(seen, caches, {}, known_until=NOW + HOUR)[UNET]
        line = whole(spent.ledger)
        assert line is not None
        assert (line.total_usd, line.unpriced_gpu_seconds) == (0.0, 8 * 3600)

    def test_licences_and_people_are_paid_as_well(self):
        books = Books(a_resource(licences=["flexlm"]))
        more = {"licences": [Licence(name="flexlm", usd_per_gpu_hour=0.5)], "labour": Labour(usd_per_job_hour=3.0)}
        line = whole(books.look(NOW + HOUR, two(NOW, NOW), **more)[UNET].ledger)
        assert line is not None
        parts = msgspec.structs.asdict(line.components)
        expected = {"hardware": 10.0, "energy": 0.0, "licence": 4.0, "labour": 3.0, "storage": 0.0, "transfer": 0.0}
        assert parts == pytest.approx(expected)
        assert line.usd.useful == pytest.approx(17.0)

    def test_data_is_brought_once_for_each_place(self):
        books = Books(a_resource(data={"gib": 100, "at": "aws/eu-west-1"}))
        pods = two(NOW, NOW)
        first = books.look(NOW + HOUR, pods)[UNET]
        again = books.look(NOW + 2 * HOUR, pods)[UNET]
        one, two_hours = whole(first.ledger), whole(again.ledger)
        assert one is not None
        assert two_hours is not None
        assert one.components.transfer == two_hours.components.transfer == pytest.approx(2.147, rel=0.01)
        later = [a_batch_job(a_plan(since=NOW + 2 * HOUR))]
        line = whole(books.look(NOW + 3 * HOUR, pods, jobs=later)[UNET].ledger)
        assert line is not None
        assert line.components.transfer == pytest.approx(2 * one.components.transfer)


def test_savings_are_against_the_default_scheduler_for_the_work_that_is_done():
    half = {"progress": {"unitsDone": 0.0, "runningSince": NOW.isoformat()}}
    books = Books(a_resource(half))
    spent = books.look(NOW + HOUR, two(NOW, NOW))[UNET]
    assert spent.ledger.baseline == "default scheduler, 8 A100-80GB on demand at 10.00 USD/h for 10.0 h"
    line = whole(spent.ledger)
    assert line is not None
    assert (spent.ledger.baseline_usd, line.baseline_usd) == (pytest.approx(100.0), pytest.approx(10.0))


def test_a_ledger_that_is_closed_is_left_alone():
    books = Books(a_resource({"phase": "Succeeded", "ledger": msgspec.to_builtins(Ledger(closed=True))}))
    assert books.look(NOW + HOUR, two(NOW, NOW)) == {}


@pytest.mark.parametrize("phase", ["Running", "Succeeded"])
def test_what_was_spent_before_there_were_ledgers_stays_spent(phase):
    status = {"phase": phase, "spentExactly": 40.0, "spentThrough": NOW.isoformat(), "offering": "a100/m/z/spot"}
    spent = Books(a_resource(status)).look(NOW + HOUR, two(NOW, NOW))[UNET]
    assert (spent.settled_usd, total_of(spent)) == (pytest.approx(50.0), pytest.approx(50.0))


def total_of(spent: Spending) -> float:
    line = whole(spent.ledger)
    assert line is not None
    return line.total_usd
