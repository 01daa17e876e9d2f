from __future__ import annotations

import json

import msgspec
import pytest

from stint.api.trainingjob import Spec
from stint.kube.act.manifests import KEEP, indexed_job, longest_name, release_patch, service
from stint.kube.plan_note import PlanNote, made_from, note, read_note
from stint.testing.builders import NOW

GPU = "nvidia.com/gpu"
PLAN = PlanNote(
    offering="p/i/z/spot", gpu_model="L40S", nodes=("n1", "n1", "n2"), since=NOW, usd_per_hour=3.5, attempt=1
)


def a_job(**spec: object) -> dict:
    template = {"spec": {"containers": [{"name": "train", "image": "x", **spec}]}}
    return indexed_job(
        "unet", "uid", template, workers=3, gpus_per_worker=2, gpu_resource="nvidia.com/gpu", plan=PLAN, key=b""
    )


def env(job: dict) -> dict[str, object]:
    container = job["spec"]["template"]["spec"]["containers"][0]
    return {e["name"]: e.get("value", e.get("valueFrom")) for e in container["env"]}


def test_the_plan_can_be_read_from_the_job_again():
    text = a_job()["metadata"]["annotations"]["stint.dev/plan"]
    assert read_note(text) == PLAN
    assert note(PLAN) == text


def test_an_annotation_of_somebody_else_is_no_plan():
    assert read_note("") is None
    assert read_note("{}") is None
    assert read_note("not json") is None


def test_workers_wait_behind_the_gate_and_start_with_torchruns_variables():
    job = a_job()
    spec = job["spec"]["template"]["spec"]
    assert spec["schedulingGates"] == [{"name": "stint.dev/placement"}]
    assert (spec["restartPolicy"], spec["subdomain"]) == ("Never", "stint-workers")
    assert spec["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    told = env(job)
    assert (told["MASTER_ADDR"], told["WORLD_SIZE"], told["PET_NNODES"]) == ("unet-0.stint-workers", "6", "3")
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["backoffLimit"]) == (3, 3, 0)


def test_what_the_user_has_set_stays():
    told = env(a_job(env=[{"name": "MASTER_PORT", "value": "1234"}, {"name": "MINE", "value": "1"}]))
    assert (told["MASTER_PORT"], told["MINE"]) == ("1234", "1")


def annotations(own: dict[str, str] | None = None, **more: bool) -> dict[str, str]:
    template = {"metadata": {"annotations": own}, "spec": {"containers": [{"name": "train", "image": "x"}]}}
    job = indexed_job("unet", "u", template, workers=1, gpus_per_worker=1, gpu_resource=GPU, plan=PLAN, key=b"", **more)
    return job["spec"]["template"]["metadata"].get("annotations")


def test_pods_ask_other_controllers_to_leave_them_where_they_are():
    left_alone = {"karpenter.sh/do-not-disrupt": "true", "cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    assert annotations({"mine": "1"}) == left_alone | {"mine": "1"}
    assert annotations(None) == left_alone
    assert annotations({"mine": "1"}, keep=False) == {"mine": "1"}


def test_what_the_template_says_of_that_stays():
    own = {"karpenter.sh/do-not-disrupt": "false"}
    assert annotations(own)["karpenter.sh/do-not-disrupt"] == "false"


def test_the_template_is_not_changed_in_place():
    template = {"spec": {"containers": [{"name": "train", "image": "x"}]}}
    before = json.dumps(template)
    indexed_job("a", "u", template, workers=1, gpus_per_worker=1, gpu_resource="nvidia.com/gpu", plan=PLAN, key=b"")
    assert json.dumps(template) == before


def test_ranks_find_each_other_before_they_are_ready():
    spec = service()["spec"]
    assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)


def _terms(patch: dict) -> list[dict]:
    return patch["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]


PIN = {"key": "metadata.name", "operator": "In", "values": ["n1"]}


def test_a_pod_is_pinned_and_let_go_in_one_patch_that_names_its_uid():
    patch = release_patch("u1", "n1", b"null")
    assert patch["metadata"] == {"uid": "u1"}
    assert patch["spec"]["schedulingGates"] == [{"$patch": "delete", "name": "stint.dev/placement"}]
    assert _terms(patch) == [{"matchFields": [PIN]}]


def test_the_pin_is_appended_to_every_term_that_is_there():
    first = {"matchExpressions": [{"key": "a", "operator": "Exists"}]}
    second = {"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n9"]}]}
    affinity = {
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [first, second]}}
    }
    terms = _terms(release_patch("u", "n1", json.dumps(affinity).encode()))
    assert terms == [{**first, "matchFields": [PIN]}, {"matchFields": [*second["matchFields"], PIN]}]


def test_every_variable_that_torchrun_reads_is_there_and_ranks_come_from_the_index():
    told = env(a_job())
    rank = {"fieldRef": {"fieldPath": "metadata.annotations['batch.kubernetes.io/job-completion-index']"}}
    assert told == {
        "MASTER_ADDR": "unet-0.stint-workers",
        "MASTER_PORT": "29500",
        "WORLD_SIZE": "6",
        "NODE_RANK": rank,
        "PET_NNODES": "3",
        "PET_NPROC_PER_NODE": "2",
        "PET_NODE_RANK": rank,
        "PET_MASTER_ADDR": "unet-0.stint-workers",
        "PET_MASTER_PORT": "29500",
    }


def test_a_value_that_comes_from_somewhere_else_is_the_users_too():
    mine = {"name": "NODE_RANK", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    told = env(a_job(env=[mine]))
    assert told["NODE_RANK"] == mine["valueFrom"]
    assert len(a_job(env=[mine])["spec"]["template"]["spec"]["containers"][0]["env"]) == 9


def test_what_a_template_says_of_itself_stays_beside_what_a_gang_needs():
    template = {
        "metadata": {"labels": {"team": "vision", "stint.dev/trainingjob": "another"}, "annotations": {"a": "b"}},
        "spec": {
            "containers": [
                {"name": "train", "image": "x", "resources": {"requests": {"cpu": "4"}}},
                {"name": "side", "image": "y"},
            ],
            "schedulingGates": [{"name": "example.com/quota"}, {"name": "stint.dev/placement"}],
            "tolerations": [{"key": "nvidia.com/gpu", "operator": "Equal", "value": "present"}],
            "restartPolicy": "Always",
        },
    }
    job = indexed_job(
        "unet", "uid", template, workers=3, gpus_per_worker=2, gpu_resource="nvidia.com/gpu", plan=PLAN, key=b""
    )
    made = job["spec"]["template"]
    assert made["metadata"]["labels"]["team"] == "vision"
    assert made["metadata"]["labels"]["stint.dev/trainingjob"] == "unet"
    assert made["metadata"]["annotations"] == KEEP | {"a": "b"}
    spec = made["spec"]
    assert [g["name"] for g in spec["schedulingGates"]] == ["example.com/quota", "stint.dev/placement"]
    assert spec["tolerations"] == template["spec"]["tolerations"]
    first, side = spec["containers"]
    assert first["resources"]["requests"] == {"cpu": "4", "nvidia.com/gpu": "2"}
    assert "resources" not in side
    assert spec["restartPolicy"] == "Never"


def test_one_failed_worker_fails_the_gang_but_a_lost_node_does_not():
    spec = a_job()["spec"]
    (rule,) = spec["podFailurePolicy"]["rules"]
    assert (spec["backoffLimit"], rule["action"]) == (0, "Ignore")
    assert rule["onPodConditions"][0]["type"] == "DisruptionTarget"


def test_everything_made_for_a_job_goes_with_it():
    thing = a_job()
    (owner,) = thing["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"], owner["controller"]) == ("TrainingJob", "unet", "uid", True)
    assert thing["metadata"]["labels"]["stint.dev/trainingjob"] == "unet"
    selector = service()["spec"]["selector"]
    assert selector.items() <= thing["spec"]["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize(("workers", "longest"), [(1, 61), (10, 61), (11, 60), (1001, 58)])
def test_host_names_of_workers_fit_into_a_label(workers, longest):
    assert longest_name(workers) == longest
    assert len("n" * longest + f"-{workers - 1}") <= 63


def test_other_kinds_of_affinity_are_left_alone_by_a_patch_that_does_not_name_them():
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}, "nodeAffinity": None}
    patch = release_patch("u", "n1", json.dumps(affinity).encode())
    assert set(patch["spec"]["affinity"]) == {"nodeAffinity"}
    assert _terms(patch) == [{"matchFields": [PIN]}]


def test_pods_ask_for_the_resource_that_parts_of_a_gpu_have_there():
    template = {"spec": {"containers": [{"name": "train", "image": "x", "resources": {"limits": {GPU: "1"}}}]}}
    plan = msgspec.structs.replace(PLAN, gpu_resource="nvidia.com/mig-1g.10gb")
    job = indexed_job("unet", "uid", template, workers=3, gpus_per_worker=1, gpu_resource=GPU, plan=plan, key=b"")
    spec = job["spec"]["template"]["spec"]
    assert spec["containers"][0]["resources"] == {
        kind: {"nvidia.com/mig-1g.10gb": "1"} for kind in ("limits", "requests")
    }
    assert spec["tolerations"] == [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]  # nodes are tainted so


def test_going_from_a_part_of_another_kind_to_a_whole_gpu_takes_new_pods():
    spec = msgspec.convert(
        {"work": {"units": 1, "unitsPerSecond": {"L4": 1}}, "gpu": {"fraction": 0.5}, "podTemplate": {}}, Spec
    )
    assert made_from(spec) == made_from(spec, GPU) != made_from(spec, "nvidia.com/mig-1g.10gb")
