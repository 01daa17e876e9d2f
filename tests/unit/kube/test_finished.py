"""Jobs that have ended, from what a cluster remembers of them."""

from collections import Counter
from datetime import UTC, datetime

import pytest

from stint.feeds import bundled
from stint.kube.observe.finished import rows_of
from stint.sim.trace import Models
from stint.sim.workload import SPEEDS

MODELS = Models(bundled.load(), SPEEDS)
CREATED, BEGAN, ENDED = "2026-10-01T00:00:00Z", "2026-10-01T00:10:00Z", "2026-10-01T01:10:00Z"


def _meta(name, **more):
    return {"name": name, "namespace": "ml", "uid": f"uid-{name}", "creationTimestamp": CREATED, **more}


def _template(gpus=4, **selector):
    resources = {"limits": {"nvidia.com/gpu": str(gpus)}} if gpus else {}
    return {"spec": {"containers": [{"resources": resources}], "nodeSelector": selector}}


def _true(*types, at=ENDED):
    return [{"type": t, "status": "True", "lastTransitionTime": at} for t in types]


def _job(name, status, *, template=None, parallelism=2, **meta):
    spec = {"parallelism": parallelism, "template": template or _template()}
    return {"metadata": _meta(name, **meta), "spec": spec, "status": status}


DONE = {"startTime": BEGAN, "completionTime": ENDED, "conditions": _true("Complete")}


def _read(jobs=(), volcano=(), workloads=()):
    unused = Counter()
    return list(rows_of(jobs, volcano, workloads, MODELS, unused)), unused


def test_a_job_that_is_done():
    product = {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"}
    (found,), unused = _read([_job("a", DONE, template=_template(4, **product))])
    at, row = found
    assert at == datetime(2026, 10, 1, tzinfo=UTC)
    assert (row.gpus, row.workers, row.duration_s, row.owner) == (8, 2, 3600.0, "ml")
    assert (row.gpu_model, row.pinned) == ("A100-80GB", True)
    assert not unused


def test_a_job_that_failed_has_cost_what_it_ran():
    (found,), _ = _read([_job("a", {"startTime": BEGAN, "conditions": _true("Failed")})])
    assert found[1].duration_s == 3600.0
    assert (found[1].gpu_model, found[1].pinned) == ("", None)


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (_job("a", {"startTime": BEGAN}), "Jobs that have not ended"),
        (_job("a", {"conditions": _true("Complete")}), "Jobs that do not say when they began"),
        (_job("a", DONE, template=_template(0)), "Jobs that ask for no whole GPU"),
        (
            _job("a", DONE, labels={"stint.dev/trainingjob": "a"}),
            "Jobs that belong to something that is counted itself",
        ),
    ],
)
def test_who_cannot_be_used_is_counted_with_the_reason(job, why):
    assert _read([job]) == ([], Counter({why: 1}))


def test_an_unknown_gpu_is_named():
    _, unused = _read([_job("a", DONE, template=_template(1, **{"nvidia.com/gpu.product": "zz9"}))])
    assert next(iter(unused)).startswith("Jobs that ask for zz9, which is no GPU model")


def test_a_volcano_job_says_how_long_it_ran_or_when_it_began():
    spec = {"tasks": [{"replicas": 1, "template": _template(0)}, {"replicas": 3, "template": _template(2)}]}
    state = {"phase": "Completed", "lastTransitionTime": ENDED}
    began = [{"status": "Running", "lastTransitionTime": BEGAN}]
    told = {"metadata": _meta("a"), "spec": spec, "status": {"state": state, "runningDuration": "1h2m3.5s"}}
    seen = {"metadata": _meta("b"), "spec": spec, "status": {"state": state, "conditions": began}}
    runs = {"metadata": _meta("c"), "spec": spec, "status": {"state": {"phase": "Running"}, "conditions": began}}
    found, unused = _read(volcano=[told, seen, runs])
    assert [(r.gpus, r.workers, r.duration_s) for _, r in found] == [(6, 3, 3723.5), (6, 3, 3600.0)]
    assert unused == {"VolcanoJobs that have not ended": 1}


def test_a_workload_of_kueue_counts_where_nothing_else_does():
    spec = {"podSets": [{"count": 2, "template": _template(8)}]}
    status = {"conditions": [*_true("Admitted", at=BEGAN), *_true("Finished")]}
    job = _job("a", DONE, ownerReferences=[{"uid": "uid-set"}])  # as of a JobSet
    of_job = _meta("w1", ownerReferences=[{"uid": "uid-a"}])
    of_set = _meta("w2", ownerReferences=[{"uid": "uid-set"}])
    alone = _meta("w3", ownerReferences=[{"uid": "uid-ray"}])
    workloads = [{"metadata": m, "spec": spec, "status": status} for m in (of_job, of_set, alone)]
    found, unused = _read([job], workloads=workloads)
    assert [(r.id.split("-")[0], r.gpus, r.duration_s) for _, r in found] == [
        ("job", 8, 3600.0),
        ("workload", 16, 3600.0),
    ]
    assert unused == {"Workloads that belong to something that is counted itself": 2}
