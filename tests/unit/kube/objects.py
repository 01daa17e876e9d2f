"""Records with sensible defaults, as the informers keep them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from stint.api.trainingjob import TrainingJob
from stint.kube.plan_note import PlanNote, note
from stint.kube.records import GangPod, JobRecord, NodeRecord, PodRecord
from stint.model.market import Taint
from stint.model.resources import Resources
from stint.testing.builders import NOW

P4DE = {
    "node.kubernetes.io/instance-type": "p4de.24xlarge",
    "topology.kubernetes.io/zone": "us-east-1a",
    "topology.kubernetes.io/region": "us-east-1",
    "karpenter.sh/capacity-type": "on-demand",
    "nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB",
    "nvidia.com/gpu.memory": "81920",
}


def a_record(name: str = "n1", *, ready: bool = True, gpus: int = 8, **changes: Any) -> NodeRecord:
    fields: dict[str, Any] = {
        "name": name,
        "uid": name,
        "provider_id": "aws:///us-east-1a/i-1",
        "labels": P4DE,
        "annotations": {},
        "taints": (Taint(key="nvidia.com/gpu", value="present"),),
        "allocatable": Resources(gpus=gpus, cpu=96, memory_gib=1000, pods=110),
        "unschedulable": False,
        "ready": ready,
        "ready_since": None,
        "created": NOW,
        "deleting": False,
    }
    return NodeRecord(**{**fields, **changes})


def a_gang_pod(
    index: int,
    *,
    node: str = "",
    phase: str = "Pending",
    gated: bool = True,
    unschedulable: bool = False,
    deleting: bool = False,
    disrupted: str = "",
    for_its_group: bool = False,
    run: str = "j",
    **more: Any,
) -> PodRecord:
    gang = GangPod(
        namespace="team",
        name=f"unet-{index}-x",
        job="unet",
        index=index,
        gated=gated,
        scheduled=bool(node),
        ready=phase == "Running",
        unschedulable=unschedulable,
        deleting=deleting,
        disrupted=disrupted,
        created=NOW,
        affinity=b"null",
        for_its_group=for_its_group,
        run=run,
        **more,
    )
    # As the template has it; what runs has more than that here, so that it can be told from what was planned.
    requests = Resources(gpus=4, pods=1) if gated else Resources(gpus=4, cpu=8, memory_gib=64, pods=1)
    return PodRecord(uid=f"p{index}{node}", node=node, nominated="", phase=phase, requests=requests, gang=gang)


def a_plan(
    nodes: tuple[str, ...] = ("n1", "n1"), *, since: datetime = NOW, usd_per_hour: float = 10.0, attempt: int = 0
) -> PlanNote:
    return PlanNote(
        offering="p4de.24xlarge-us-east-1a-on-demand/p4de.24xlarge/us-east-1a/on-demand",
        gpu_model="A100-80GB",
        nodes=nodes,
        since=since,
        usd_per_hour=usd_per_hour,
        attempt=attempt,
    )


def a_batch_job(plan: PlanNote | None = None, **changes: Any) -> JobRecord:
    fields: dict[str, Any] = {
        "namespace": "team",
        "name": "unet",
        "uid": "j",
        "job": "unet",
        "plan": note(plan or a_plan()),
        "suspended": False,
        "completions": 2,
        "active": 2,
        "succeeded": 0,
        "failed_message": None,
        "complete": False,
        "deleting": False,
        "ended": None,
        "owner": "u",
    }
    return JobRecord(**{**fields, **changes})


def a_resource(status: dict[str, Any] | None = None, **spec: Any) -> TrainingJob:
    full = {
        "workers": 2,
        "gpu": {"perWorker": 4},
        "work": {"units": 36000, "unitsPerSecond": {"A100-80GB": 1.0}},
        "checkpoint": {"everyMinutes": 60},
        "template": {"spec": {"containers": [{"name": "train", "image": "x"}]}},
        **spec,
    }
    meta = {"name": "unet", "namespace": "team", "uid": "u", "generation": 3}
    return msgspec.convert({"metadata": meta, "spec": full, "status": status or {}}, TrainingJob)
