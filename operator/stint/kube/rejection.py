"""What kube-scheduler and kubelets say of pods that they do not take. Their words come from outside and are cleaned."""

from __future__ import annotations

import re

MOST_SAID = 500  # characters of a message that are kept
# Those that the kubelet itself counts as rejections (`kubelet_admission_rejections_total`), of Kubernetes 1.21 to 1.36,
# and what its predicates and resource managers add. What is short of a resource is "OutOf" and the resource.
ADMISSION = frozenset(
    {
        "AppArmor",
        "InitContainerRestartPolicyForbidden",
        "InvalidNodeInfo",
        "NodeAffinity",
        "NodeName",
        "NodePorts",
        "NodeSelectorMismatching",
        "PodFeatureUnsupported",
        "PodLevelResourcesNotSupported",
        "PodOSNotSupported",
        "PodOSSelectorNodeLabelDoesNotMatch",
        "SMTAlignmentError",
        "SupplementalGroupsPolicyNotSupported",
        "SysctlForbidden",
        "TaintToleration",
        "TopologyAffinityError",
        "UnexpectedAdmissionError",
        "UnexpectedPredicateFailureType",
        "UnknownReason",
        "VolumeAttachmentLimitExceeded",
        "inconsistentCPUAllocationError",
        "prohibitedCPUAllocation",
    }
)
# A node that shuts down, is short of memory or disk, or needs room for a critical pod ends also pods that run.
_ENDED = frozenset({"Evicted", "NodeShutdown", "Preempting", "Shutdown", "Terminated"})
_OUT_OF = "OutOf"
# The pod's own doing: it wrote more than its limit allows, as it would on any node.
_OWN_LIMIT = re.compile(r"exceed(s|ed) (the|its) .*limit", re.IGNORECASE)
_OWN = frozenset({"DeadlineExceeded"})  # activeDeadlineSeconds
# Goes by itself, and blames no node: a volume or a claim is being made, a node is becoming ready.
_PASSES = re.compile(
    r"unbound immediate PersistentVolumeClaims|waiting for|being (created|allocated|deleted)|"
    r"node\.kubernetes\.io/not-ready|node\.cloudprovider\.kubernetes\.io/uninitialized"
)


def said(text: str) -> str:
    """A message from outside in one line of at most `MOST_SAID` characters, without any that are not printable."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * MOST_SAID]).split())
    return plain if len(plain) <= MOST_SAID else plain[: MOST_SAID - 1] + "…"


def rejects(reason: str, message: str, *, began: bool) -> bool:
    """Whether a pod that failed did so because its kubelet did not take it, or did not let it go on.

    Args:
        reason: status.reason; empty: its containers ended by themselves.
        began: a container of it has started. One that never did and has a reason was not admitted, whatever the reason.
    """
    if not reason or reason in _OWN:
        return False
    if reason in _ENDED:
        return not _OWN_LIMIT.search(message)
    return reason in ADMISSION or reason.startswith(_OUT_OF) or not began


def passes(message: str) -> bool:
    """Whether what kube-scheduler says may be over in a moment, or is not for a node to mend."""
    return bool(_PASSES.search(message))
