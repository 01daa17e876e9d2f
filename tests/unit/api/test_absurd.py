"""Whatever is written into an object: it is observed without an error, and the good job beside it gets its place."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from stint.api.gpupool import GPUPool
from stint.api.parse.pricebook import to_overrides
from stint.api.parse.template import worker_template
from stint.api.pricebook import PriceBook
from stint.api.quantity import quantity
from stint.api.trainingjob import TrainingJob
from stint.capacity.adapter import BOUGHT_BY, ORDERED_AT
from stint.decide import decide
from stint.errors import InvalidInputError
from stint.kube.act.manifests import indexed_job
from stint.kube.observe.snapshot import Observation
from stint.kube.plan_note import made_from, note
from stint.kube.reduce import reduce_node, reduce_pod
from stint.kube.wire import WireNode, WirePod
from stint.lifecycle import phases
from stint.lifecycle.retries import MOST_BACKOFF_S, next_try
from stint.model.job import Phase
from stint.model.plan import Hold, Placement, Plan
from stint.testing.builders import NOW
from stint.views import job_status
from tests import absurd
from tests.unit.kube.objects import P4DE, a_batch_job, a_gang_pod, a_plan, a_record, a_resource
from tests.unit.kube.test_observe import UNET, look

KINDS: dict[str, Any] = {"TrainingJob": TrainingJob, "GPUPool": GPUPool, "PriceBook": PriceBook}
MOST_OF_A_BODY = 256 * 1024


def typed(thing: dict[str, Any]) -> Any | None:
    """As the operator reads it; None: it is of a shape that no schema lets through."""
    meta = {"uid": thing["metadata"]["name"], "resourceVersion": "1", "generation": 1, **thing["metadata"]}
    try:
        return msgspec.convert({**thing, "metadata": meta, "status": {}}, KINDS[thing["kind"]])
    except msgspec.ValidationError:
        return None


def taken(cases: dict[str, absurd.Case], *fates: str) -> list[str]:
    """Names of those with such a fate."""
    return [name for name, case in cases.items() if case.fate in fates]


def decided(seen: Observation) -> tuple[Plan, dict[str, Any]]:
    """The plan, and the status of each job after it, whose good one has its place."""
    plan = decide(seen.situation)
    assert UNET in [p.job for p in plan.placements]
    outcomes = phases.outcomes(plan)
    context = job_status.Context(now=NOW, offerings=seen.inventory.offerings)
    return plan, {key: job_status.build(one, outcomes.get(key), context) for key, one in seen.seen.items()}


def test_there_are_two_hundred_and_they_differ():
    made = absurd.objects("team")
    assert len(made) == 200
    assert len({msgspec.json.encode([m["kind"], m["spec"]]) for m in made}) > 180


@pytest.mark.parametrize("seed", range(5))
def test_none_of_them_keeps_a_good_job_from_its_place(seed):
    read = [t for thing in absurd.objects("team", seed=seed) if (t := typed(thing)) is not None]
    jobs = [t for t in read if isinstance(t, TrainingJob)]
    assert len(jobs) > 25
    seen = look(
        resources=[a_resource(), *jobs],
        pools=[t for t in read if isinstance(t, GPUPool)],
        books=[t for t in read if isinstance(t, PriceBook)],
        nodes=[a_record()],
    )
    reached = {j.id for j in seen.situation.jobs}
    for key, one in seen.seen.items():
        if one.phase is Phase.INVALID:
            assert key not in reached
            assert one.invalid is not None
            for mistake in one.invalid.mistakes:
                assert mistake.path.startswith(("spec", "metadata")), mistake
                assert mistake.remedy, mistake
                assert "mistake of Stint" not in mistake.remedy, mistake
    decided(seen)


@pytest.mark.parametrize("name", taken(absurd.JOBS, absurd.INVALID))
def test_a_bad_job_is_told_field_value_and_remedy_and_reaches_no_decision(name):
    bad = typed(absurd.hand_made(name, "team", {}))
    assert bad is not None
    seen = look(resources=[a_resource(), bad], nodes=[a_record()])
    assert [j.id for j in seen.situation.jobs] == [UNET]
    _, statuses = decided(seen)
    status = statuses[f"team/{name}"]
    assert (status.phase, status.reason) == ("Invalid", "InvalidSpec")
    for words in absurd.JOBS[name].says:
        assert words in status.message
    assert "mistake of Stint" not in status.message
    assert [(c.type, c.status, c.message) for c in status.conditions] == [("Admitted", "False", status.message)]


@pytest.mark.parametrize("name", taken(absurd.JOBS, absurd.WAITS))
def test_a_job_that_cannot_be_had_is_legal_and_told_why_it_waits(name):
    seen = look(resources=[a_resource(), typed(absurd.hand_made(name, "team", {}))], nodes=[a_record()])
    plan, statuses = decided(seen)
    assert isinstance(phases.outcomes(plan)[f"team/{name}"], Hold)
    status = statuses[f"team/{name}"]
    for words in absurd.JOBS[name].says:
        assert words in f"{status.reason}: {status.message}"


@pytest.mark.parametrize("name", taken(absurd.JOBS, absurd.RUNS, absurd.REFUSED_LATER, absurd.TOO_LARGE))
def test_a_job_that_is_only_odd_gets_its_place_and_its_pods_are_made(name):
    odd = typed(absurd.hand_made(name, "team", {}))
    assert odd is not None
    seen = look(resources=[a_resource(), odd], nodes=[a_record("n1"), a_record("n2")])
    plan, _ = decided(seen)
    outcome = phases.outcomes(plan)[f"team/{name}"]
    assert isinstance(outcome, Placement)
    made = indexed_job(
        name,
        "u",
        worker_template(odd.spec),
        workers=1,
        gpus_per_worker=1,
        gpu_resource=odd.spec.gpu.resource,
        plan=a_plan(tuple(outcome.nodes)),
        key=b"",
    )
    pod = made["spec"]["template"]
    assert pod["spec"]["restartPolicy"] == "Never"
    assert pod["metadata"]["labels"]["stint.dev/trainingjob"] == name
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    msgspec.json.encode(made)


@pytest.mark.parametrize("levels", [101, 700, 9000])
def test_a_template_too_deep_to_be_copied_is_told_so_and_not_copied(levels):
    """The API server takes ten thousand levels; a copy by recursion breaks at a few hundred."""
    raw = absurd.hand_made("raw-nested", "team", {})
    raw["spec"]["podTemplate"]["spec"]["affinity"] = absurd.nested(levels)
    seen = look(resources=[a_resource(), typed(raw)], nodes=[a_record()])
    assert [j.id for j in seen.situation.jobs] == [UNET]
    _, statuses = decided(seen)
    assert statuses["team/raw-nested"].message.startswith("spec.podTemplate: more than 100 levels: must not be nested")


def test_a_field_that_is_null_is_one_that_is_left_out():
    """Also for the fingerprint of what pods are made from: clearing a comment away changes no pod."""
    name = "raw-nulls"
    nulls = typed(absurd.hand_made(name, "team", {})).spec
    bare = msgspec.structs.replace(
        nulls,
        pod_template={
            "metadata": {},
            "spec": {"nodeSelector": {}, "containers": [{"name": "a", "image": "x", "resources": {}}]},
        },
    )
    assert worker_template(nulls) == worker_template(bare)
    assert made_from(nulls) == made_from(bare)


def test_an_init_container_counts_where_it_takes_more_than_the_others_and_a_sidecar_always():
    def cpu(*init: dict[str, Any]) -> float:
        raw = absurd.hand_made("raw-restarts", "team", {})
        pod = raw["spec"]["podTemplate"]["spec"]
        pod["containers"] = [{"name": "a", "image": "x", "resources": {"requests": {"cpu": "4"}}}]
        pod["initContainers"] = [
            {"name": f"i{i}", "image": "x", "resources": {"requests": {"cpu": "3"}}, **c} for i, c in enumerate(init)
        ]
        job = look(resources=[typed(raw)]).seen["team/raw-restarts"].job
        assert job is not None
        return job.per_worker.cpu

    large = {"resources": {"requests": {"cpu": "9"}}}
    assert (cpu(), cpu({}), cpu({}, {}), cpu({}, large)) == (4, 4, 4, 9)
    assert cpu({"restartPolicy": "Always"}) == 7


@pytest.mark.parametrize(
    "text", ["NaN", "nan", "inf", "-Infinity", "1_0", "٣", "", " 1", "1 ", "1Zi", "e5", ".", "0x1"]
)
def test_what_kubernetes_takes_for_no_quantity_is_none_here(text):
    with pytest.raises(ValueError):
        quantity(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e3", 1e3), ("-0", 0), ("+1.5", 1.5), (".5", 0.5), ("5.", 5), ("1e-3", 1e-3), ("1E", 1e18), ("1e400", 2.0**63)],
)
def test_what_kubernetes_takes_for_a_quantity_is_one_and_finite(text, value):
    assert quantity(text) == pytest.approx(value)


@pytest.mark.parametrize("name", taken(absurd.POOLS, absurd.INVALID, absurd.WAITS, absurd.RUNS))
def test_an_absurd_pool_keeps_nobody_from_a_place(name):
    pool = typed(absurd.hand_made_pool(name, "p"))
    assert pool is not None
    seen = look(resources=[a_resource()], nodes=[a_record()], pools=[pool])
    plan, _ = decided(seen)
    assert not plan.resizes
    problems = [f"{p.about}: {p.message}" for p in seen.inventory.problems]
    assert len(problems) == (absurd.POOLS[name].fate == absurd.INVALID)
    for problem in problems:
        assert f"GPUPool p-{name} spec.offerings[0]" in problem
        for words in absurd.POOLS[name].says:
            assert words in problem


def test_two_pools_that_claim_a_node_keep_it_from_everybody_and_no_other():
    pools = [typed(absurd.gpupool(name)) for name in ("x", "y")]
    both = [msgspec.structs.replace(p.spec, node_selector={"mine": "yes"}) for p in pools]
    pools = [msgspec.structs.replace(p, spec=spec) for p, spec in zip(pools, both, strict=True)]
    claimed = a_record("claimed", labels={**P4DE, "mine": "yes"})
    seen = look(resources=[a_resource()], nodes=[a_record("free"), claimed], pools=pools)
    (problem,) = seen.inventory.problems
    assert (problem.about, problem.reason) == ("node claimed", "ClaimedTwice")
    assert "x and y both select it" in problem.message
    assert problem.pools == ("x", "y")
    plan, _ = decided(seen)
    assert set(plan.placements[0].nodes) == {"free"}


def test_a_pool_that_selects_every_node_there_is_takes_them_and_no_harm_is_done():
    pool = typed(absurd.gpupool("all"))
    pool = msgspec.structs.replace(
        pool, spec=msgspec.structs.replace(pool.spec, node_selector={"nvidia.com/gpu.memory": "81920"})
    )
    seen = look(resources=[a_resource()], nodes=[a_record("n1")], pools=[pool])
    plan, _ = decided(seen)
    assert plan.placements[0].chosen.offering.startswith("all/")


@pytest.mark.parametrize("name", taken(absurd.BOOKS, absurd.INVALID, absurd.RUNS))
def test_an_absurd_book_is_left_out_whole_or_does_no_harm(name):
    book, case = typed(absurd.hand_made_book(name, "b")), absurd.BOOKS[name]
    assert book is not None
    decided(look(resources=[a_resource()], nodes=[a_record()], books=[book]))
    if case.fate == absurd.RUNS:
        assert to_overrides(book).name == f"b-{name}"
        return
    with pytest.raises(InvalidInputError) as refused:
        to_overrides(book)
    for words in case.says:
        assert words in str(refused.value)


def test_every_contradiction_of_a_book_is_told_at_once():
    book = typed(absurd.hand_made_book("contradiction", "b"))
    tariffs = typed(absurd.hand_made_book("tariffs", "b")).spec.energy
    book = msgspec.structs.replace(book, spec=msgspec.structs.replace(book.spec, energy=tariffs, as_of="2026-13-01"))
    with pytest.raises(InvalidInputError) as refused:
        to_overrides(book)
    assert [m.path for m in refused.value.mistakes] == ["spec.asOf", "spec.prices[1]", "spec.energy.tariffs[1]"]


def a_wire_node(name: str, machine: absurd.Machine, **meta: Any) -> WireNode:
    amounts = {"cpu": "96", "memory": "1000Gi", "pods": "110", "nvidia.com/gpu": "8", **machine.allocatable}
    labels = {**P4DE, "stint.dev/provider": "aws", **machine.labels}
    ready = [{"type": "Ready", "status": "True"}]
    made = {
        "metadata": {"name": name, "uid": name, "labels": labels, **meta},
        "spec": {"taints": [{"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}]},
        "status": {"allocatable": amounts, "conditions": ready},
    }
    return msgspec.convert(made, WireNode)


@pytest.mark.parametrize("name", [n for n, machine in absurd.NODES.items() if not machine.says])
def test_an_absurd_node_is_counted_with_what_can_be_and_takes_no_job_from_a_good_one(name):
    machine = absurd.NODES[name]
    _, _, record = reduce_node(a_wire_node("odd", machine))
    seen = look(resources=[a_resource(gpu={"perWorker": 4})], nodes=[a_record("good"), record])
    odd = [n for n in seen.situation.nodes if n.name == "odd"]
    assert record.allocatable.gpus == machine.gpus
    told = [p.reason for p in seen.inventory.problems if p.reason != "NoPrice"]
    assert told == (["SharedGpus"] if machine.gpus > 8 else [])
    assert [n.allocatable.gpus for n in odd] == ([machine.gpus] if machine.gpus <= 8 else []), "no machine has so many"
    assert all(0 <= amount < float("inf") for amount in record.allocatable.as_row())
    decided(seen)
    # The pool's status adds them up, and it is an int64.
    assert 4000 * record.allocatable.gpus < 2**63


@pytest.mark.parametrize("gpus", [gpus for gpus, counted in absurd.PODS.items() if counted])
def test_a_pod_that_asks_for_absurdly_much_fills_its_own_node_and_no_other(gpus):
    raw = {
        "metadata": {"name": "greedy", "namespace": "other", "uid": "g"},
        "spec": {"nodeName": "n1", "containers": [{"resources": {"requests": {"nvidia.com/gpu": gpus}}}]},
        "status": {"phase": "Running"},
    }
    _, _, pod = reduce_pod(msgspec.convert(raw, WirePod))
    assert pod.requests.gpus == absurd.PODS[gpus]
    seen = look(resources=[a_resource()], nodes=[a_record("n1"), a_record("n2")], pods=[pod])
    plan, _ = decided(seen)
    assert set(plan.placements[0].nodes) == {"n2"}


@pytest.mark.parametrize("nodes", [250, 2000])
def test_two_thousand_workers_fit_into_a_status_and_into_a_jobs_annotation(nodes):
    """An annotation may have 256 KiB, all of an object's together; names here are as long as host names can be."""
    gpus = 2000 // nodes
    records = [a_record(f"n{i:05d}-".ljust(63, "x"), gpus=gpus) for i in range(nodes)]
    gang = a_resource(workers=2000, gpu={"perWorker": 1}, work={"units": 36000, "unitsPerSecond": {"A100-80GB": 1.0}})
    seen = look(resources=[gang], nodes=records)
    plan, statuses = decided(seen)
    (placed,) = plan.placements
    assert len(placed.nodes) == 2000
    status = statuses[UNET]
    assert len(status.nodes) == nodes
    assert len(msgspec.json.encode(job_status.body(gang, status))) < MOST_OF_A_BODY
    annotation = note(msgspec.structs.replace(a_plan(tuple(placed.nodes)), message=status.message))
    assert len(annotation) < MOST_OF_A_BODY


@pytest.mark.parametrize("text", ["soon", "", "2026-01-01", "2026-13-45T00:00:00Z", "9999-12-31T23:59:59Z"])
def test_a_node_that_was_ordered_at_no_time_at_all_keeps_nobody_waiting(text):
    pool = typed(absurd.gpupool("p"))
    pool = msgspec.structs.replace(pool, spec=msgspec.structs.replace(pool.spec, node_selector={"mine": "yes"}))
    bought = {ORDERED_AT: text, BOUGHT_BY: "p"}
    odd = a_record("odd", ready=False, labels={**P4DE, "mine": "yes"}, annotations=bought)
    decided(look(resources=[a_resource()], nodes=[a_record(), odd], pools=[pool]))


@pytest.mark.parametrize(
    ("plan", "status"),
    [
        ({"since": "2026-01-01T00:00:00"}, {}),
        ({"usdPerHour": -1}, {}),
        ({}, {"notBefore": "9999-12-31T23:59:59Z"}),
        ({}, {"spentExactly": -5}),
    ],
    ids=["no time zone", "a negative price", "never again", "a negative bill"],
)
def test_a_plan_or_a_status_that_somebody_edited_keeps_nobody_else_waiting(plan, status):
    resource = msgspec.convert(
        {
            **msgspec.to_builtins(a_resource(status)),
            "metadata": {"name": "edited", "namespace": "team", "uid": "e", "generation": 1},
        },
        TrainingJob,
    )
    written = msgspec.json.decode(note(a_plan(("n2", "n2")))) | plan
    job = a_batch_job(name="edited", job="edited")
    job = msgspec.structs.replace(job, plan=msgspec.json.encode(written).decode())
    decided(look(resources=[a_resource(), resource], nodes=[a_record("n1"), a_record("n2")], jobs=[job]))


def test_a_phase_that_is_none_is_overwritten():
    decided(look(resources=[a_resource({"phase": "Banana"})], nodes=[a_record()]))


def test_a_pod_beyond_the_gangs_last_rank_is_no_worker():
    workers = [a_gang_pod(0)]
    beyond = a_gang_pod(99, gated=False)
    seen = look(resources=[a_resource()], nodes=[a_record()], pods=[*workers, beyond], jobs=[a_batch_job()])
    assert [p.uid for p in seen.seen[UNET].gang.pods] == [p.uid for p in workers]


def test_a_job_that_is_refused_for_weeks_still_backs_off():
    old = a_resource({"rollbacks": 1024}).status
    assert next_try(NOW, old.rollbacks) == NOW + timedelta(seconds=MOST_BACKOFF_S)


def test_a_run_that_its_checkpoints_stretch_beyond_all_dates_keeps_nobody_waiting():
    endless = a_resource(
        work={"units": 3.6e10, "unitsPerSecond": {"A100-80GB": 1.0}},
        checkpoint={"everyMinutes": 0.02, "takesSeconds": 60},
    )
    meta = msgspec.structs.replace(endless.metadata, name="endless", uid="e")
    endless = msgspec.structs.replace(endless, metadata=meta)
    decided(look(resources=[a_resource(), endless], nodes=[a_record("n1"), a_record("n2")]))


def test_a_licence_that_nobody_prices_is_told_and_not_charged_as_nothing():
    plan = decide(look(resources=[a_resource(licences=["nobody-sells-it"])], nodes=[a_record()]).situation)
    assert [h.reason for h in plan.holds] == ["NoPrice"]
