"""What the operator must be allowed to do, and why. The chart grants exactly this; at start it is asked for.

The API server answers a SelfSubjectAccessReview for the operator's own account. A missing right is named in the log,
makes the readiness probe fail, and stands in a condition of every TrainingJob that has not ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from stint.api.gpupool import GPUPool, Mode, target_of
from stint.capacity.registry import rights_of
from stint.kube.client.api import Api
from stint.model.right import Right as Right
from stint.model.right import rights
from stint.workloads.kind import Kind
from stint.workloads.registry import KINDS


def _why_read(kind: Kind) -> str:
    return (
        f"its owner is told that a {kind.kind} is not placed"
        if kind.refused
        else (f"it is known how many pods a {kind.kind} has")
    )


_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


ALWAYS: Sequence[Right] = (
    *rights("list watch", "stint.dev", "trainingjobs", "Stint reads the jobs to place"),
    *rights("list watch", "stint.dev", "gpupools", "Stint reads limits and scalers of node pools"),
    *rights("list watch", "stint.dev", "pricebooks", "Stint uses your own prices"),
    *rights("patch", "stint.dev", "trainingjobs/status", "a job's status shows phase, cost and reasons"),
    *rights("patch", "stint.dev", "gpupools/status", "an order of nodes is recorded before it is sent"),
    *rights("patch", "stint.dev", "pricebooks/status", "a PriceBook's status shows its mistakes"),
    *rights(
        "get list create update delete", "stint.dev", "dailyspends", "daily costs are kept after the jobs are gone"
    ),
    *rights("list watch", "", "nodes", "Stint finds GPUs and notices lost nodes"),
    *rights("list watch", "", "pods", "Stint sees which pod uses which GPU"),
    *rights("patch", "", "pods", "workers are pinned to their nodes and released"),
    *rights("delete", "", "pods", "pods on lost nodes are removed"),
    *rights("list watch", "", "services", "a deleted Service of a gang is created again"),
    *rights("list watch", "apps", "daemonsets", "Stint knows what DaemonSets take of a node before it buys one"),
    *rights("list watch", "node.k8s.io", "runtimeclasses", "what a RuntimeClass adds to each pod is reckoned with"),
    *rights("list watch", "", "limitranges", "what a LimitRange makes containers ask for is reckoned with"),
    *rights("list watch", "", "persistentvolumeclaims", "a gang goes where its volumes can be mounted"),
    *rights("list watch", "", "persistentvolumes", "a gang goes where its volumes can be mounted"),
    *rights("list watch", "storage.k8s.io", "storageclasses", "a gang goes where its volumes can be made"),
    *rights("create", "", "services", "the workers of a gang find each other"),
    *rights("list watch", "batch", "jobs", "Stint sees which gangs are placed"),
    *rights("create", "batch", "jobs", "Stint creates the Job of a gang"),
    *rights("patch", "batch", "jobs", "a gang is suspended when it is requeued, and resumed"),
    *rights("delete", "batch", "jobs", "a gang starts from a new Job after a failure"),
    *rights("create patch", "events.k8s.io", "events", "kubectl describe shows what happened and what it costs"),
    *rights("create", "coordination.k8s.io", "leases", "one of several replicas leads", own_namespace=True),
    *rights(
        "get update", "coordination.k8s.io", "leases", "one of several replicas leads", own_namespace=True, name="stint"
    ),
    *rights("create", "", "configmaps", "measured speeds are kept when the operator restarts", own_namespace=True),
    *rights(
        "get patch",
        "",
        "configmaps",
        "measured speeds are kept when the operator restarts",
        own_namespace=True,
        name="stint-calibration",
    ),
    *rights("create", "", "secrets", "plans are signed, so that nobody else can write one", own_namespace=True),
    *rights(
        "get",
        "",
        "secrets",
        "plans are known again when the operator restarts",
        own_namespace=True,
        name="stint-plan-key",
    ),
)

# With `steering.enabled`: what others make is read, and suspended and resumed to have its pods made anew.
WITH_STEERING: Sequence[Right] = (
    *rights("list watch", "", "namespaces", "pods are placed only in namespaces that are labelled for it"),
    *rights("create delete", "stint.dev", "trainingjobs", "a TrainingJob stands for each of other people's workloads"),
    *rights("patch", "stint.dev", "trainingjobs", "it follows what they write, and notes where its pods go"),
    *(
        right
        for kind in KINDS.values()
        if kind.group != "batch"
        for right in rights("list watch", kind.group, kind.plural, _why_read(kind))
    ),
    *(
        right
        for kind in KINDS.values()
        if kind.group != "batch" and kind.suspend
        for right in rights("patch", kind.group, kind.plural, f"a {kind.kind} that lost a node makes all its pods anew")
    ),
)

# With `podGroups.enabled`; needed where the cluster serves them.
WITH_POD_GROUPS: Sequence[Right] = (
    *rights("list watch", "scheduling.k8s.io", "podgroups", "a missing PodGroup of a gang is created"),
    *rights("create", "scheduling.k8s.io", "podgroups", "the scheduler binds all pods of a gang or none"),
)


def with_config_map(name: str) -> Sequence[Right]:
    """For each entry of `feeds.configMaps`."""
    return tuple(rights("get", "", "configmaps", "a PriceBook's source can be read", own_namespace=True, name=name))


# With `feeds.nodeOverlays`.
WITH_NODE_OVERLAYS: Sequence[Right] = tuple(
    rights("list", "karpenter.sh", "nodeoverlays", "prices that people have told Karpenter count here, too")
)


def needed(pools: Iterable[GPUPool], *, steering: bool = False, pod_groups: bool = False) -> tuple[Right, ...]:
    """All, with what pools that are acted on ask for, other people's workloads, and PodGroups where they are made."""
    found = [*ALWAYS, *(WITH_STEERING if steering else ()), *(WITH_POD_GROUPS if pod_groups else ())]
    for pool in pools:
        scaler = pool.spec.scaler
        if scaler is None or scaler.mode is not Mode.ACT:
            continue
        found += rights_of(scaler.adapter, target_of(scaler))
    return tuple(dict.fromkeys(found))


async def missing(api: Api, rights: Iterable[Right], *, namespace: str) -> list[Right]:
    """Those that the API server says we do not have.

    Args:
        namespace: where the operator lives.
    Raises:
        ApiError, aiohttp.ClientError, TimeoutError: it does not say.
    """
    rights = list(rights)
    allowed = await asyncio.gather(*(_allowed(api, right, namespace) for right in rights))
    return [right for right, yes in zip(rights, allowed, strict=True) if not yes]


async def _allowed(api: Api, right: Right, namespace: str) -> bool:
    resource, _, sub = right.resource.partition("/")
    asked = {
        "verb": right.verb,
        "group": right.group,
        "resource": resource,
        "subresource": sub,
        "name": right.name,
        "namespace": namespace if right.own_namespace else "",
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {k: v for k, v in asked.items() if v}},
    }
    answer: Any = await api.ask(_REVIEWS, body)
    return bool(answer["status"].get("allowed"))


def told(rights: Sequence[Right]) -> str:
    """For the log, the probe and conditions: what is missing, what it is for, what helps."""
    each = "; ".join(f"may not {right} (needed so that {right.why})" for right in rights[:5])
    more = f"; and {len(rights) - 5} more" if len(rights) > 5 else ""
    return f"the operator {each}{more}: grant it, or let the chart do so (rbac.create=true)"


def table(rights: Iterable[Right]) -> str:
    """As Markdown, for the docs."""
    rows = ["| right | scope | needed so that |", "|---|---|---|"]
    for right in rights:
        scope = "its own namespace" if right.own_namespace else "the cluster"
        rows.append(f"| `{right}` | {scope} | {right.why} |")
    return "\n".join(rows) + "\n"
