"""Writes charts/stint/RIGHTS.md: what the chart grants to the operator, and why."""

from __future__ import annotations

from hack.cluster import CHART
from stint.kube.rbac import (
    ALWAYS,
    WITH_KWOK,
    WITH_NODE_OVERLAYS,
    WITH_POD_GROUPS,
    WITH_STEERING,
    table,
    with_config_map,
    with_scale_target,
)

TARGET = CHART / "RIGHTS.md"


def text() -> str:
    """The page."""
    return f"""# What Stint may do, and why

This is all that the chart grants to the operator's ServiceAccount (`rbac.create=true`), and the operator uses all of
it. At start it asks the API server whether it has these rights; what is missing is named in its log, makes its
readiness probe fail (`kubectl describe pod` shows it), and stands in the condition `Actionable` of every job
that has not ended.

{table(ALWAYS)}
Only with `pools.kwok.enabled=true`, for pools of fake nodes:

{table(WITH_KWOK)}
Only with `steering.enabled=true`, for other people's workloads (their Jobs are among the first table's):

{table(WITH_STEERING)}
Only with `podGroups.enabled=true`, and asked for only where the cluster serves them:

{table(WITH_POD_GROUPS)}
Only for what you list in `pools.scaleTargets`; for `{{apiGroup: cluster.x-k8s.io, resource: machinedeployments}}`:

{table(with_scale_target("cluster.x-k8s.io", "machinedeployments"))}
Only for what you list in `feeds.configMaps`; for `rates`:

{table(with_config_map("rates"))}
Only with `feeds.nodeOverlays=true`:

{table(WITH_NODE_OVERLAYS)}
What sources need is not asked for at start: a PriceBook's condition `SourcesGood` says when it is missing. The operator
may not read Secrets (those in `feeds.tokenSecrets` are mounted) or other ConfigMaps, run anything in a pod, or change
any right.
"""


if __name__ == "__main__":
    TARGET.write_text(text())
