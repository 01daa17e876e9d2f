from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from stint.api.parse.job import Known, deadline_of, to_job
from stint.api.parse.pricebook import read_books, to_overrides, with_books
from stint.api.parse.template import Claim, Surroundings
from stint.api.pricebook import PriceBook, SourceType, Spec
from stint.api.quantity import duration, resources
from stint.api.trainingjob import TrainingJob
from stint.catalogue.commitments import OwnedMachine
from stint.catalogue.layer import CarbonSignal, PriceKey
from stint.errors import InvalidInputError
from stint.feeds import bundled
from stint.model.job import Topology
from stint.model.offering import CapacityType
from stint.testing.builders import NOW

CATALOGUE = bundled.load()
CONTAINER = {"name": "train", "image": "x"}


def a_resource(name: str = "unet", container: dict[str, Any] | None = None, **spec: Any) -> TrainingJob:
    full = {
        "workers": 2,
        "gpu": {"perWorker": 4},
        "work": {"units": 100, "unitsPerSecond": {"A100-80GB": 1.0, "NVIDIA-L40S": 0.5}},
        "template": {"spec": {"containers": [{**CONTAINER, **(container or {})}]}},
        **spec,
    }
    return msgspec.convert({"metadata": {"name": name, "namespace": "team", "uid": "u"}, "spec": full}, TrainingJob)


def parse(resource: TrainingJob):
    return to_job(resource, CATALOGUE, Known(), created=NOW)


def mistakes(resource: TrainingJob) -> dict[str, str]:
    with pytest.raises(InvalidInputError) as refused:
        parse(resource)
    return {m.path: f"{m.found}: {m.remedy}" for m in refused.value.mistakes}


def test_models_are_understood_in_any_usual_spelling():
    job = parse(a_resource(gpu={"models": ["NVIDIA-A100-SXM4-80GB"]}))
    assert job.gpu_models == ("A100-80GB",)
    assert set(job.work.units_per_second) == {"A100-80GB", "L40S"}


def test_a_claim_of_one_pod_serves_a_gang_of_one_only():
    mounts = {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}], "containers": [CONTAINER]}
    known = Known(around=Surroundings(claims={"data": Claim(of_one_pod=True)}))

    def lacking(workers: int) -> str:
        resource = a_resource(workers=workers, template=None, podTemplate={"spec": mounts})
        return to_job(resource, CATALOGUE, known, created=NOW).lacking

    assert "PersistentVolumeClaim data is ReadWriteOncePod, and all 3 workers mount it" in lacking(3)
    assert lacking(1) == ""


def test_a_fraction_is_one_of_whatever_a_node_gives_out():
    job = parse(a_resource(gpu={"fraction": 0.25}))
    assert (job.gpu_fraction, job.per_worker.gpus) == (0.25, 1)
    assert parse(a_resource()).gpu_fraction is None


def test_a_worker_needs_what_its_containers_ask_for_and_its_gpus():
    job = parse(a_resource(container={"resources": {"requests": {"cpu": "500m", "memory": "64Gi"}}}))
    assert (job.per_worker.gpus, job.per_worker.cpu, job.per_worker.memory_gib) == (4, 0.5, 64.0)


def test_all_mistakes_are_told_at_once_each_with_its_path_and_a_remedy():
    found = mistakes(
        a_resource(
            gpu={"perWorker": 4, "models": ["H1000"]},
            work={"units": 1, "unitsPerSecond": {"A1O0": 1.0}},
            container={"resources": {"requests": {"cpu": "four", "nvidia.com/gpu": "4"}}},
            deadline="2020-01-01T00:00:00Z",
        )
    )
    assert set(found) == {
        "spec.gpu.models[0]",
        "spec.work.unitsPerSecond[A1O0]",
        "spec.template.spec.containers[0].resources",
        "spec.deadline",
    }
    assert "or H100-SXM" in found["spec.gpu.models[0]"]
    assert "give a later one" in found["spec.deadline"]


def test_gpus_asked_for_twice_must_agree():
    found = mistakes(a_resource(container={"resources": {"limits": {"nvidia.com/gpu": "2"}}}))
    assert "contradicts spec.gpu.perWorker 4" in found["spec.template.spec.containers[0].resources"]


@pytest.mark.parametrize(
    ("workers", "length", "fits"), [(10, 61, True), (11, 61, False), (1000, 59, True), (1001, 59, False)]
)
def test_names_leave_room_for_the_workers_numbers(workers, length, fits):
    resource = a_resource("n" * length, workers=workers)
    if fits:
        assert parse(resource).workers == workers
    else:
        assert "host names end at 63" in mistakes(resource)["metadata.name"]


def test_models_without_a_speed_are_told():
    assert "has a speed" in mistakes(a_resource(gpu={"models": ["H100-SXM"]}))["spec.gpu.models"]


def test_within_counts_from_the_creation():
    assert parse(a_resource(within="36h")).deadline == NOW + timedelta(hours=36)
    assert duration("3d") == timedelta(days=3)


def test_the_escape_hatch_takes_any_pod_template():
    template = {
        "spec": {"containers": [CONTAINER], "nodeSelector": {"a": "b"}, "tolerations": [{"operator": "Exists"}]}
    }
    resource = a_resource()
    job = parse(
        msgspec.structs.replace(
            resource, spec=msgspec.structs.replace(resource.spec, template=None, pod_template=template)
        )
    )
    assert job.node_selector == {"a": "b"}
    assert job.tolerations[0].operator == "Exists"


def test_quantities():
    assert resources({"cpu": "1500m", "memory": "1Ti", "nvidia.com/gpu": "8"}).as_row() == (8.0, 1.5, 1024.0, 0.0)


def a_book(name: str = "ours", **spec: Any) -> PriceBook:
    return msgspec.convert({"metadata": {"name": name}, "spec": spec}, PriceBook)


P5 = {"provider": "aws", "region": "us-east-1", "instanceType": "p5.48xlarge"}


def test_a_price_book_beats_the_catalogue_and_says_that_it_did():
    book = a_book(asOf="2026-11-01", prices=[{**P5, "usdPerNodeHour": 31.5}])
    figure = with_books(CATALOGUE, [book]).price("aws", "us-east-1", "p5.48xlarge", CapacityType.ON_DEMAND)
    assert figure is not None
    assert (figure.value, figure.source, figure.as_of) == (31.5, "pricebook/ours", date(2026, 11, 1))


def test_of_two_books_the_higher_precedence_wins():
    books = [
        a_book("a", precedence=1, prices=[{**P5, "usdPerNodeHour": 1}]),
        a_book("b", prices=[{**P5, "usdPerNodeHour": 2}]),
    ]
    figure = with_books(CATALOGUE, books).price("aws", "us-east-1", "p5.48xlarge", CapacityType.ON_DEMAND)
    assert figure is not None
    assert figure.value == 1


def test_a_book_with_a_wrong_date_is_left_out_whole():
    book = a_book(asOf="2026-13-01", prices=[{**P5, "usdPerNodeHour": 1}])
    with pytest.raises(InvalidInputError, match="write it as 2026-11-01"):
        to_overrides(book)
    assert with_books(CATALOGUE, [book]).layers == CATALOGUE.layers


def test_everything_a_book_can_say_arrives():
    said = to_overrides(
        a_book(
            prices=[{**P5, "capacityType": "spot", "zone": "use1-az4", "usdPerNodeHour": 9}],
            energy={"tariffs": [{"region": "dc1", "usdPerKwh": 0.2}], "pue": [{"at": "on-premises/*", "ratio": 1.4}]},
            carbon={"usdPerTonne": 80, "intensities": [{"at": "aws/us-east-1", "gPerKwh": 300}]},
            egress=[{"from": "aws/us-east-1", "to": "gcp/us-central1", "usdPerGB": 0.05}],
            storage=[{"at": "aws/us-east-1", "usdPerGBMonth": 0.05}],
            interruptions=[{"provider": "aws", "perHour": 0.1}],
            licences=[{"name": "nim", "usdPerGpuHour": 1}],
            labour={"usdPerJobHour": 2},
        )
    )
    assert said.prices == {PriceKey("aws", "us-east-1", "p5.48xlarge", CapacityType.SPOT, "use1-az4"): 9}
    numbers = (said.tariffs, said.pue, said.carbon, said.egress, said.storage, said.interruptions, said.licences)
    assert [list(n.values()) for n in numbers] == [[0.2], [1.4], [300], [0.05], [0.05], [0.1], [1]]
    assert (said.labour_usd_per_job_hour, said.carbon_usd_per_tonne) == (2, 80)


def test_a_book_says_what_is_paid_for_anyway():
    catalogue = with_books(
        CATALOGUE,
        [
            a_book(
                commitments=[
                    {"name": "plan", "provider": "aws", "savingsPlan": {"usdPerHour": 30, "discount": 0.3}},
                    {
                        "name": "block",
                        "provider": "aws",
                        "region": "us-east-1",
                        "instanceType": "p5.48xlarge",
                        "nodes": 2,
                        "usdPerNodeHour": 40,
                        "start": "2026-12-01T11:30:00Z",
                        "end": "2026-12-02T11:30:00Z",
                    },
                    {
                        "name": "racks",
                        "provider": "dc",
                        "instanceType": "dgx",
                        "nodes": 8,
                        "owned": {"capexUsd": 300000, "idleWatts": 900, "usdPerKwh": 0.2, "pue": 1.3},
                    },
                ]
            )
        ],
    )
    block, racks, plan = catalogue.commitments  # what expires unused comes first
    assert (block.name, block.nodes, block.usd_per_node_hour, block.holds(NOW)) == ("block", 2, 40, False)
    assert racks.owned == OwnedMachine(capex_usd=300000, depreciation_years=4, idle_watts=900, usd_per_kwh=0.2, pue=1.3)
    assert (plan.plan_usd_per_hour, plan.plan_discount, plan.source) == (30, 0.3, "pricebook/ours")


def test_the_last_book_that_says_so_decides_which_kind_of_carbon_counts():
    kinds = [("average-operational", 1), ("marginal", 0)]
    books = [
        a_book(kind, precedence=n, carbon={"signal": kind, "intensities": [{"at": "aws/x", "gPerKwh": 100 + n}]})
        for kind, n in kinds
    ]
    catalogue = with_books(CATALOGUE, books)
    assert catalogue.carbon_signal is CarbonSignal.AVERAGE_OPERATIONAL
    assert catalogue.carbon_g_per_kwh("aws", "x").value == 101, "and the other's is not mixed in"
    assert with_books(CATALOGUE, [a_book()]).carbon_signal is CarbonSignal.AVERAGE_LIFECYCLE


def test_freshness_is_the_last_books_to_say():
    found = read_books([a_book("a", freshness={"spotPriceDays": 1}), a_book("b")])
    assert found.freshness.spot_price_days == 1


def test_every_mistake_says_what_it_found():
    resource = a_resource(
        gpu={"perWorker": 4, "models": ["H1000"]}, container={"resources": {"limits": {"nvidia.com/gpu": "2"}}}
    )
    with pytest.raises(InvalidInputError, match="TrainingJob team/unet has 2 mistakes") as refused:
        parse(resource)
    assert {m.found for m in refused.value.mistakes} == {"'H1000'", "2 GPUs"}
    assert all(m.remedy for m in refused.value.mistakes)


def test_the_widest_size_of_an_elastic_job_must_fit_into_its_host_names():
    resource = a_resource("n" * 60, workers=10, elastic={"min": 1, "max": 1000})
    assert "with 1000 workers it may have 59" in mistakes(resource)["metadata.name"]
    job = parse(a_resource(workers=4, elastic={"min": 2, "max": 8}))
    assert (job.min_workers, job.workers, job.max_workers) == (2, 4, 8)


def test_negative_amounts_are_refused():
    found = mistakes(a_resource(container={"resources": {"requests": {"memory": "-1Gi"}}}))
    assert "must not be negative" in found["spec.template.spec.containers[0].resources"]


def test_a_deadline_is_counted_from_the_creation_on_the_deciding_clock():
    soon = (NOW + timedelta(hours=1)).isoformat()
    assert parse(a_resource(deadline=soon)).deadline == NOW + timedelta(hours=1)
    before = (NOW - timedelta(hours=1)).isoformat()
    assert "spec.deadline" in mistakes(a_resource(deadline=before))


def test_every_job_tolerates_the_taint_of_its_gpus():
    assert parse(a_resource()).tolerations[-1].key == "nvidia.com/gpu"
    amd = parse(a_resource(gpu={"perWorker": 1, "resource": "amd.com/gpu"}))
    assert amd.tolerations[-1].key == "amd.com/gpu"


def test_limits_count_where_there_are_no_requests_and_requests_where_there_are():
    amounts = {"limits": {"cpu": "8", "memory": "32Gi"}, "requests": {"cpu": "2"}}
    job = parse(a_resource(container={"resources": amounts}))
    assert (job.per_worker.cpu, job.per_worker.memory_gib) == (2.0, 32.0)


def test_what_is_known_of_a_job_beside_its_spec_is_in_the_noun():
    known = Known(units_done=7.0, spent_usd=3.5, not_before=NOW, avoid=("bad",))
    job = to_job(a_resource(data={"gib": 5, "at": "aws/us-east-1"}), CATALOGUE, known, created=NOW)
    assert (job.work.units_done, job.spent_usd, job.not_before, job.avoid) == (7.0, 3.5, NOW, ("bad",))
    assert (job.data.provider, job.data.region, job.id) == ("aws", "us-east-1", "team/unet")


def test_a_topology_is_required_unless_told_otherwise():
    assert parse(a_resource()).topology is None
    assert parse(a_resource(topology={"within": "rack"})).topology == Topology(key="rack", required=True)
    assert parse(a_resource(topology={"within": "rack", "required": False})).topology == Topology(
        key="rack", required=False
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("9999-12-31T23:59:59-12:00", datetime.max.replace(tzinfo=UTC)),
        ("0001-01-01T00:00:00+14:00", datetime.min.replace(tzinfo=UTC)),
        ("2030-01-01T01:00:00+02:00", datetime(2029, 12, 31, 23, tzinfo=UTC)),
    ],
)
def test_a_deadline_is_a_moment_in_utc_even_where_utc_has_no_date_for_it(written, meant):
    resource = a_resource(deadline=written)
    moment = deadline_of(resource.spec, NOW)
    assert moment == meant
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(moment), type=datetime) == meant


def test_the_price_book_of_the_readme_is_one():
    text = (Path(__file__).resolve().parents[3] / "README.md").read_text()
    (block,) = [b for b in re.findall(r"^```yaml\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if "kind: PriceBook" in b]
    written = yaml.safe_load(block)
    strict = msgspec.defstruct(
        "Strict", [("apiVersion", str), ("kind", str), ("metadata", dict), ("spec", Spec)], forbid_unknown_fields=True
    )
    book = msgspec.convert(written, PriceBook)
    assert msgspec.convert(written, strict).spec == book.spec  # type: ignore[attr-defined]
    assert {s.type for s in book.spec.sources} == set(SourceType) - {SourceType.WATT_TIME}
    assert [c.name for c in with_books(CATALOGUE, [book]).commitments] == ["ri", "block", "racks", "plan"]
    assert msgspec.to_builtins(book.spec.sources[5].tariffs[0].windows[0])["from"] == "07:00"
