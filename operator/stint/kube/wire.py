"""Nodes, pods, Jobs and the like as they come over the wire, as far as they are read."""

from __future__ import annotations

from datetime import datetime

import msgspec


class WireMeta(msgspec.Struct, rename="camel"):
    """metadata"""

    name: str
    uid: str
    resource_version: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    deletion_grace_period_seconds: int | None = None
    generation: int = 0


class WireOwner(msgspec.Struct):
    """metadata.ownerReferences[]"""

    kind: str
    name: str
    uid: str
    controller: bool = False
    api_version: str = msgspec.field(default="", name="apiVersion")


class OwnedMeta(WireMeta, rename="camel"):
    """metadata of what something else may have made"""

    owner_references: list[WireOwner] = msgspec.field(default_factory=list)

    @property
    def maker(self) -> WireOwner | None:
        """What made it; None: a person did."""
        return next((o for o in self.owner_references if o.controller), None)


class WireCondition(msgspec.Struct, rename="camel"):
    """status.conditions[]"""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class _WireTaint(msgspec.Struct):
    key: str
    effect: str
    value: str = ""


class _NodeSpec(msgspec.Struct, rename="camel"):
    provider_id: str = msgspec.field(name="providerID", default="")
    taints: list[_WireTaint] = []
    unschedulable: bool = False


class _NodeStatus(msgspec.Struct):
    allocatable: dict[str, str] = {}
    conditions: list[WireCondition] = []


class WireNode(msgspec.Struct):
    """core/v1 Node"""

    metadata: WireMeta
    spec: _NodeSpec = msgspec.field(default_factory=_NodeSpec)
    status: _NodeStatus = msgspec.field(default_factory=_NodeStatus)


class _Named(msgspec.Struct):
    name: str


class _Resources(msgspec.Struct):
    requests: dict[str, str] = {}
    claims: list[_Named] = []  # of spec.resourceClaims


class _Port(msgspec.Struct, rename="camel"):
    host_port: int = 0
    host_ip: str = msgspec.field(default="", name="hostIP")
    protocol: str = "TCP"


class _Container(msgspec.Struct, rename="camel"):
    resources: _Resources = msgspec.field(default_factory=_Resources)
    restart_policy: str = ""
    ports: list[_Port] = []


class PodSpec(msgspec.Struct, rename="camel"):
    containers: list[_Container] = []
    init_containers: list[_Container] = []
    resources: _Resources | None = None
    overhead: dict[str, str] = {}
    node_name: str = ""
    scheduling_gates: list[_Named] = []
    resource_claims: list[_Named] = []
    affinity: msgspec.Raw = msgspec.Raw(b"null")
    node_selector: msgspec.Raw = msgspec.Raw(b"null")
    tolerations: msgspec.Raw = msgspec.Raw(b"null")
    topology_spread_constraints: msgspec.Raw = msgspec.Raw(b"null")
    volumes: msgspec.Raw = msgspec.Raw(b"null")
    priority_class_name: str = ""


class _Running(msgspec.Struct, rename="camel"):
    started_at: datetime | None = None


class _Terminated(msgspec.Struct, rename="camel"):
    started_at: datetime | None = None
    finished_at: datetime | None = None


class _ContainerState(msgspec.Struct):
    running: _Running | None = None
    terminated: _Terminated | None = None


class _ContainerStatus(msgspec.Struct):
    state: _ContainerState = msgspec.field(default_factory=_ContainerState)


class _Claim(msgspec.Struct):
    """That there is one is all there is to know."""


class PodStatus(msgspec.Struct, rename="camel"):
    phase: str = ""
    reason: str = ""
    message: str = ""
    nominated_node_name: str = ""
    conditions: list[WireCondition] = []
    container_statuses: list[_ContainerStatus] = []
    extended_resource_claim_status: _Claim | None = None


class WirePod(msgspec.Struct):
    """core/v1 Pod"""

    metadata: OwnedMeta
    spec: PodSpec
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class _DaemonTemplate(msgspec.Struct):
    spec: PodSpec = msgspec.field(default_factory=PodSpec)


class _DaemonSpec(msgspec.Struct):
    template: _DaemonTemplate = msgspec.field(default_factory=_DaemonTemplate)


class WireDaemonSet(msgspec.Struct):
    """apps/v1 DaemonSet"""

    metadata: WireMeta
    spec: _DaemonSpec = msgspec.field(default_factory=_DaemonSpec)


class _Overhead(msgspec.Struct, rename="camel"):
    pod_fixed: dict[str, str] | None = None


class WireRuntimeClass(msgspec.Struct):
    """node.k8s.io/v1 RuntimeClass"""

    metadata: WireMeta
    overhead: _Overhead | None = None


class _Limit(msgspec.Struct, rename="camel"):
    type: str
    default_request: dict[str, str] | None = None


class _LimitSpec(msgspec.Struct):
    limits: list[_Limit] | None = None


class WireLimitRange(msgspec.Struct):
    """core/v1 LimitRange"""

    metadata: WireMeta
    spec: _LimitSpec = msgspec.field(default_factory=_LimitSpec)


class _ClaimSpec(msgspec.Struct, rename="camel"):
    volume_name: str = ""
    storage_class_name: str | None = None
    access_modes: list[str] | None = None


class _ClaimStatus(msgspec.Struct):
    phase: str = ""


class WireVolumeClaim(msgspec.Struct):
    """core/v1 PersistentVolumeClaim"""

    metadata: WireMeta
    spec: _ClaimSpec = msgspec.field(default_factory=_ClaimSpec)
    status: _ClaimStatus = msgspec.field(default_factory=_ClaimStatus)


class _VolumeSpec(msgspec.Struct, rename="camel"):
    node_affinity: msgspec.Raw = msgspec.Raw(b"null")


class WireVolume(msgspec.Struct):
    """core/v1 PersistentVolume"""

    metadata: WireMeta
    spec: _VolumeSpec = msgspec.field(default_factory=_VolumeSpec)


class WireStorageClass(msgspec.Struct, rename="camel"):
    """storage.k8s.io/v1 StorageClass"""

    metadata: WireMeta
    volume_binding_mode: str = "Immediate"
    allowed_topologies: msgspec.Raw = msgspec.Raw(b"null")


class WireNamespace(msgspec.Struct):
    """core/v1 Namespace"""

    metadata: WireMeta


class WireService(msgspec.Struct):
    """core/v1 Service"""

    metadata: WireMeta


class _SchedulingGroup(msgspec.Struct, rename="camel"):
    pod_group_name: str = ""


class _TemplateSpec(msgspec.Struct, rename="camel"):
    scheduling_group: _SchedulingGroup | None = None


class _Template(msgspec.Struct):
    spec: _TemplateSpec = msgspec.field(default_factory=_TemplateSpec)


class _JobSpec(msgspec.Struct):
    suspend: bool = False
    completions: int = 0
    template: _Template = msgspec.field(default_factory=_Template)


class _JobStatus(msgspec.Struct, rename="camel"):
    active: int = 0
    ready: int = 0
    succeeded: int = 0
    failed: int = 0
    terminating: int = 0
    conditions: list[WireCondition] = []


class WireJob(msgspec.Struct):
    """batch/v1 Job"""

    metadata: OwnedMeta
    spec: _JobSpec = msgspec.field(default_factory=_JobSpec)
    status: _JobStatus = msgspec.field(default_factory=_JobStatus)


class WirePodGroup(msgspec.Struct):
    """scheduling.k8s.io/v1beta1 PodGroup"""

    metadata: WireMeta
