"""What the operator must be allowed to do, and why. The chart grants exactly this; at start it is asked for.

The API server answers a SelfSubjectAccessReview for whoever asks about himself. What is missing is named in the log,
makes the readiness probe fail, and stands in a condition of every TrainingJob that has not ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from stint.api.gpupool import Adapter, GPUPool, Mode
from stint.kube.client.api import Api
from stint.kube.workloads import KINDS

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource."""

    verb: str
    group: str  # empty: the core group
    resource: str  # with its subresource, if any: pods/status
    why: str  # completes "so that ..."
    own_namespace: bool = False  # only where the operator itself lives
    name: str = ""  # only the object of this name

    def __str__(self) -> str:
        """As kubectl auth can-i takes it."""
        where = self.resource + (f".{self.group}" if self.group else "")
        return f"{self.verb} {where}" + (f" {self.name}" if self.name else "")


def _all(
    verbs: str, group: str, resource: str, why: str, *, own_namespace: bool = False, name: str = ""
) -> list[Right]:
    return [Right(verb, group, resource, why, own_namespace, name) for verb in verbs.split()]


ALWAYS: Sequence[Right] = (
    *_all("list watch", "stint.dev", "trainingjobs", "what people want is known"),
    *_all("list watch", "stint.dev", "gpupools", "limits and scalers of pools are known"),
    *_all("list watch", "stint.dev", "pricebooks", "your own prices are used"),
    *_all("patch", "stint.dev", "trainingjobs/status", "phase, dollars and reasons can be read"),
    *_all("patch", "stint.dev", "gpupools/status", "an order of nodes is noted before it is made"),
    *_all("patch", "stint.dev", "pricebooks/status", "mistakes in a price book are told"),
    *_all("get list create update delete", "stint.dev", "dailyspends", "what was spent outlives the jobs"),
    *_all("list watch", "", "nodes", "GPUs are found, and nodes that go are noticed"),
    *_all("list watch", "", "pods", "it is known who has which GPU"),
    *_all("patch", "", "pods", "workers are pinned to their nodes and let go"),
    *_all("delete", "", "pods", "pods on nodes that are gone are forgotten"),
    *_all("list watch", "", "services", "a gang's Service that somebody deleted is missed"),
    *_all("create", "", "services", "the workers of a gang find each other"),
    *_all("list watch", "batch", "jobs", "it is known which gangs have their place"),
    *_all("create", "batch", "jobs", "a gang gets its place"),
    *_all("patch", "batch", "jobs", "a gang can be taken back, and let go again"),
    *_all("delete", "batch", "jobs", "a gang can start afresh after a failure"),
    *_all("create patch", "events.k8s.io", "events", "kubectl describe tells what happened, in money"),
    *_all("create", "coordination.k8s.io", "leases", "one of several replicas leads", own_namespace=True),
    *_all(
        "get update", "coordination.k8s.io", "leases", "one of several replicas leads", own_namespace=True, name="stint"
    ),
    *_all("create", "", "configmaps", "measured speeds outlive the operator", own_namespace=True),
    *_all(
        "get patch",
        "",
        "configmaps",
        "measured speeds outlive the operator",
        own_namespace=True,
        name="stint-calibration",
    ),
)

# With `pools.kwok.enabled`: fake nodes for trials. A list of them is among `ALWAYS`.
WITH_KWOK: Sequence[Right] = tuple(_all("create delete", "", "nodes", "pools with the Kwok adapter grow and shrink"))


# With `steering.enabled`: what others make is read, and suspended and resumed to have its pods made anew.
WITH_STEERING: Sequence[Right] = (
    *_all("create delete", "stint.dev", "trainingjobs", "a TrainingJob stands for each of other people's workloads"),
    *_all("patch", "stint.dev", "trainingjobs", "it follows what they write, and notes where its pods go"),
    *(
        right
        for kind in KINDS.values()
        if kind.group != "batch"
        for right in _all("list watch", kind.group, kind.plural, f"it is known how many pods a {kind.kind} has")
    ),
    *(
        right
        for kind in KINDS.values()
        if kind.group != "batch" and kind.suspend
        for right in _all("patch", kind.group, kind.plural, f"a {kind.kind} that lost a node makes all its pods anew")
    ),
)

# With `podGroups.enabled`; needed where the cluster serves them.
WITH_POD_GROUPS: Sequence[Right] = (
    *_all("list watch", "scheduling.k8s.io", "podgroups", "a gang's PodGroup that is not there yet is missed"),
    *_all("create", "scheduling.k8s.io", "podgroups", "the scheduler binds all of a gang or nobody"),
)


def with_config_map(name: str) -> Sequence[Right]:
    """For each entry of `feeds.configMaps`."""
    return tuple(_all("get", "", "configmaps", "a PriceBook's source can be read", own_namespace=True, name=name))


# With `feeds.nodeOverlays`.
WITH_NODE_OVERLAYS: Sequence[Right] = tuple(
    _all("list", "karpenter.sh", "nodeoverlays", "prices that people have told Karpenter count here, too")
)


def with_scale_target(group: str, resource: str) -> Sequence[Right]:
    """For each entry of `pools.scaleTargets`."""
    return tuple(_all("patch", group, f"{resource}/scale", "pools with the Scale adapter grow and shrink"))


def needed(pools: Iterable[GPUPool], *, steering: bool = False, pod_groups: bool = False) -> tuple[Right, ...]:
    """All, with what pools that are acted on ask for, other people's workloads, and PodGroups where they are made."""
    found = [*ALWAYS, *(WITH_STEERING if steering else ()), *(WITH_POD_GROUPS if pod_groups else ())]
    for pool in pools:
        scaler = pool.spec.scaler
        if scaler is None or scaler.mode is not Mode.ACT:
            continue
        if scaler.adapter is Adapter.KWOK:
            found += WITH_KWOK
        elif scaler.target is not None:
            group = scaler.target.api_version.rpartition("/")[0]
            found += with_scale_target(group, scaler.target.resource)
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
