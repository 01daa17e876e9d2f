"""Writes charts/stint/RIGHTS.md: what the chart grants to the operator, and why."""

from __future__ import annotations

from hack.cluster import CHART
from stint.capacity.adapter import Target
from stint.capacity.registry import ADAPTERS, rights_of
from stint.kube.rbac import (
    ALWAYS,
    WITH_NODE_OVERLAYS,
    WITH_POD_GROUPS,
    WITH_STEERING,
    table,
    with_config_map,
)

EXAMPLE = Target(api_version="cluster.x-k8s.io/v1beta2", resource="machinedeployments")
TARGET = CHART / "RIGHTS.md"


def _of_adapters(*, with_target: bool) -> str:
    """A section for each capacity adapter that has rights of its own, and that acts on a target or does not."""
    sections = []
    for name, adapter in ADAPTERS.items():
        if adapter.traits.needs_target is with_target and (found := rights_of(name, EXAMPLE if with_target else None)):
            such = f"; for `{{apiGroup: {EXAMPLE.group}, resource: {EXAMPLE.resource}}}`" if with_target else ""
            sections.append(f"{adapter.traits.granted}{such}:\n\n{table(found)}")
    return "\n".join(sections)


def text() -> str:
    """The page."""
    return f"""# What Stint may do, and why

This is all that the chart grants to the operator's ServiceAccount (`rbac.create=true`), and the operator uses all of
it. At start it asks the API server whether it has these rights; what is missing is named in its log, makes its
readiness probe fail (`kubectl describe pod` shows it), and stands in the condition `Actionable` of every job
that has not ended.

{table(ALWAYS)}
{_of_adapters(with_target=False)}
Only with `steering.enabled=true`, for other people's workloads (their Jobs are among the first table's):

{table(WITH_STEERING)}
Only with `podGroups.enabled=true`, and asked for only where the cluster serves them:

{table(WITH_POD_GROUPS)}
{_of_adapters(with_target=True)}
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
