from __future__ import annotations

import msgspec
import pytest

from stint.api.trainingjob import TrainingJob
from stint.kube.act.proxy_jobs import MADE_FROM, Refusal, manifest
from stint.model.job import JobId
from tests.unit.kube.theirs import SPEC, group, pod, workload

JOB = JobId("team/job-train")


def made(*pods, said=SPEC, chain=None):
    return manifest(group(*pods, workloads=chain or (workload(annotations={"stint.dev/spec": said}),)), JOB)


def test_a_stand_in_says_what_its_annotation_and_its_pods_say():
    body = made(
        pod("a", gpus=4), pod("b"), said=SPEC + "\nbudget: {usd: 5}\ngpu: {models: [A100-80GB], memoryGiB: 40}\n"
    )
    resource = msgspec.convert(body, TrainingJob)
    assert (resource.metadata.namespace, resource.metadata.name) == ("team", "job-train")
    assert (resource.spec.workers, resource.spec.gpu.per_worker, resource.spec.gpu.models) == (2, 4, ["A100-80GB"])
    assert resource.spec.budget is not None
    assert resource.spec.steers is not None
    assert (resource.spec.steers.kind, resource.spec.steers.name) == ("Job", "train")
    assert body["metadata"]["ownerReferences"] == [
        {"apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": "uid-train"}
    ]


def test_what_a_person_made_is_asked_first_then_what_it_made_then_the_pods():
    labels = {"jobset.sigs.k8s.io/jobset-name": "t"}
    member = pod("a", labels=labels, annotations={"stint.dev/spec": "work: {units: 1, unitsPerSecond: {H100: 1}}"})
    jobset = workload("JobSet", "t", owner="top", spec={"replicatedJobs": []}, annotations={"stint.dev/spec": ""})
    top = workload("TrainJob", "top", spec={}, annotations={"stint.dev/spec": "priority: 7\n" + SPEC})
    both = group(member, workloads=(jobset, top))
    assert isinstance(manifest(both, JOB), Refusal), "nobody says how many there are"
    sized = pod("a", labels=labels, annotations={"stint.dev/group-size": "1", "stint.dev/spec": "work: {units: 1}"})
    body = manifest(group(sized, workloads=(jobset, top)), JOB)
    assert not isinstance(body, Refusal)
    assert body["spec"]["priority"] == 7
    alone = manifest(group(sized, workloads=()), JOB)
    assert not isinstance(alone, Refusal)
    assert alone["spec"]["work"] == {"units": 1}


def test_the_fingerprint_follows_what_was_written_and_nothing_else():
    first, again = made(pod("a"), pod("b")), made(pod("c"), pod("d"))
    other = made(pod("a"), pod("b"), said=SPEC + "\npriority: 1")
    prints = [b["metadata"]["annotations"][MADE_FROM] for b in (first, again, other)]
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "nobody says how much work Job train is"),
        ("{", "is no YAML"),
        ("work: {unitsPerSecond: {4090: 2}}", "work.unitsPerSecond: key 4090 is a number; write it in quotes"),
        ("work: &a [*a]", "anchor &a is not read; leave it out"),
        ("a: 1\na: 2", "key 'a' is there twice; leave one out"),
        ("3", "must be a mapping"),
        ("1: 2", "key 1 is a number; write it in quotes"),
        ("template: {}", "may not say template; it may say budget"),
        ("elastic: {min: 1, max: 2}\nwrk: {}", "may not say elastic, wrk"),
        ("gpu: [1]", "gpu must be a mapping"),
        ("x" * 20_000, "has 20000 characters; it may have 16384"),
        ("[" * 16_000, "nested more than 16 levels deep"),
        ("!!python/object/apply:os.system [ls]", "is not read; leave it out"),
    ],
)
def test_what_cannot_be_used_is_told_with_what_helps(said, told):
    refused = made(pod("a"), pod("b"), said=said)
    assert isinstance(refused, Refusal)
    assert told in refused.text


def test_plain_pods_own_what_stands_for_them():
    labels, noted = {"stint.dev/group": "g"}, {"stint.dev/group-size": "2", "stint.dev/spec": SPEC}
    body = manifest(group(*(pod(n, labels=labels, annotations=noted) for n in "ab")), JobId("team/group-g"))
    assert not isinstance(body, Refusal)
    assert [o["name"] for o in body["metadata"]["ownerReferences"]] == ["a", "b"]
