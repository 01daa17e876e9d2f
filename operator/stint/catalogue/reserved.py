"""What a machine has left for pods when its provider's kubelet has set its part aside: the sellers' own formulas.

    allocatable memory = nominal x (1 - what the hypervisor and the kernel keep) - kube-reserved - eviction threshold
    allocatable CPU    = nominal - kube-reserved

Sources: Amazon EKS AMI, `bootstrap.sh` and nodeadm (memory: 255 MiB + 11 MiB a pod); Google, "Plan GKE Standard node
sizes"; Microsoft, "Node resource reservations in Azure Kubernetes Service", for 1.29 and later. As of 2026-11.
"""

from __future__ import annotations

from collections.abc import Sequence

_MIB = 1 / 1024  # GiB
_MB = 1e6 / 2**30  # GiB
_EVICTION = 100 * _MIB
_KERNEL = 0.03  # of nominal memory that the kubelet never sees: 2.6 % on the largest machines, less on small ones
_PODS = {"aws": 250, "gcp": 110, "azure": 250}  # the most that is usual, so that too little is expected, not too much
_ELSEWHERE_CPU, _ELSEWHERE_MEMORY = 0.97, 0.94  # of nominal, where the formula is not known

# Up to so much, this part of it: the first step of CPU is in cores, of memory in GiB.
_CPU_STEPS = ((1.0, 0.06), (2.0, 0.01), (4.0, 0.005), (float("inf"), 0.0025))
_GKE_MEMORY_STEPS = ((4.0, 0.25), (8.0, 0.2), (16.0, 0.1), (128.0, 0.06), (float("inf"), 0.02))
# Millicores by cores; between them on a line, beyond them as between the last two.
_AKS_CPU = ((1, 60), (2, 100), (4, 140), (8, 180), (16, 260), (32, 420), (64, 740))


def allocatable(provider: str, vcpu: float, memory_gib: float) -> tuple[float, float]:
    """Cores and GiB that pods find on a machine of nominal size."""
    if provider not in _PODS:
        return vcpu * _ELSEWHERE_CPU, memory_gib * _ELSEWHERE_MEMORY
    seen = memory_gib * (1 - _KERNEL)
    if provider == "aws":
        cpu, memory = _steps(_CPU_STEPS, vcpu), (255 + 11 * _PODS["aws"]) * _MIB
    elif provider == "gcp":
        cpu, memory = _steps(_CPU_STEPS, vcpu), _steps(_GKE_MEMORY_STEPS, seen)
    else:
        cpu, memory = _on_a_line(vcpu), min((20 * _PODS["azure"] + 50) * _MB, 0.25 * seen)
    return max(0.0, vcpu - cpu), max(0.0, seen - memory - _EVICTION)


def _steps(steps: Sequence[tuple[float, float]], amount: float) -> float:
    total, before = 0.0, 0.0
    for upto, part in steps:
        total += max(0.0, min(amount, upto) - before) * part
        before = upto
    return total


def _on_a_line(cores: float) -> float:
    known = list(_AKS_CPU)
    last = next((i for i, (c, _) in enumerate(known) if c >= cores), len(known) - 1)
    (c0, m0), (c1, m1) = known[max(0, last - 1)], known[max(1, last)]
    return max(0.0, m0 + (cores - c0) * (m1 - m0) / (c1 - c0)) / 1000
