"""What kube-scheduler takes a pod to ask for, whichever form its spec has here.

    containers = sum of the containers and of all sidecars
    step i     = init container i + the sidecars before it      (one after the other)
    request    = max(containers, step 1, step 2, ...), or what the pod level says, + overhead

A sidecar is an init container with `restartPolicy: Always`. The pod level (`spec.resources`) speaks for CPU, memory and
huge pages only; each resource that it names replaces what the containers add up to.

Not counted: containers that are being resized in place, for which the scheduler also looks at the pod's status.

Source: k8s.io/component-helpers/resource, `PodRequests` and `AggregateContainerRequests`; for the defaults
pkg/apis/core/v1, `SetDefaults_Pod`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Amounts = Mapping[str, float]  # by resource name, in base units

_NOTHING: Amounts = {}
_POD_LEVEL = ("cpu", "memory")
_HUGE_PAGES = "hugepages-"


def counts_at_pod_level(resource: str) -> bool:
    """Whether `spec.resources` of a pod may name it."""
    return resource in _POD_LEVEL or resource.startswith(_HUGE_PAGES)


def pod_requests(
    containers: Iterable[Amounts],
    init_containers: Iterable[tuple[Amounts, bool]] = (),
    *,
    pod_level: Amounts = _NOTHING,
    pod_limits: Amounts = _NOTHING,
    overhead: Amounts = _NOTHING,
) -> dict[str, float]:
    """The amount of each resource.

    Args:
        init_containers: in their order, each with whether it is a sidecar.
        pod_level: `spec.resources.requests` of the pod.
        pod_limits: `spec.resources.limits`, where the API server has not made requests of them yet: they are the
            request of what no container asks for.
    """
    total: dict[str, float] = {}
    for asked in containers:
        _add(total, asked)
    sidecars: dict[str, float] = {}
    most: dict[str, float] = {}
    for asked, is_sidecar in init_containers:
        step = dict(sidecars)
        _add(step, asked)
        if is_sidecar:
            _add(total, asked)
            sidecars = step
        _raise(most, step)
    _raise(total, most)
    for resource, amount in pod_limits.items():
        if counts_at_pod_level(resource):
            total.setdefault(resource, amount)
    total |= {resource: amount for resource, amount in pod_level.items() if counts_at_pod_level(resource)}
    _add(total, overhead)
    return total


def _add(total: dict[str, float], more: Amounts) -> None:
    for resource, amount in more.items():
        total[resource] = total.get(resource, 0.0) + amount


def _raise(total: dict[str, float], least: Amounts) -> None:
    for resource, amount in least.items():
        total[resource] = max(total.get(resource, amount), amount)
