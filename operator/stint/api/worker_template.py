"""spec.template of a TrainingJob: as much of a PodTemplateSpec as most workers need."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from stint.api.meta import Camel
from stint.api.schema import PRESERVE, doc

_LABEL = Annotated[str, msgspec.Meta(max_length=317)]
ANY = dict[str, Any]


class EnvVar(Camel, kw_only=True):
    """A container's environment variable."""

    name: Annotated[str, doc("Name of the variable.", min_length=1, max_length=253)]
    value: Annotated[Annotated[str, msgspec.Meta(max_length=32_768)] | None, doc("Its value.")] = None
    value_from: Annotated[ANY | None, doc("Where its value comes from, as in core/v1 EnvVar.")] = None


class ContainerResources(Camel, kw_only=True):
    """requests and limits"""

    requests: Annotated[dict[str, Any], doc("As in core/v1; the GPUs are added.", extra=PRESERVE)] = {}
    limits: Annotated[dict[str, Any], doc("As in core/v1; the GPUs are added.", extra=PRESERVE)] = {}


class Container(Camel, kw_only=True):
    """One container of a worker."""

    name: Annotated[str, doc("Name of the container.", max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
    image: Annotated[str, doc("Container image.", min_length=1, max_length=1024)]
    image_pull_policy: Annotated[str | None, doc("Always, IfNotPresent or Never.")] = None
    command: Annotated[list[Annotated[str, msgspec.Meta(max_length=32_768)]], doc("Entry point.", max_length=256)] = []
    args: Annotated[list[Annotated[str, msgspec.Meta(max_length=32_768)]], doc("Arguments.", max_length=256)] = []
    working_dir: Annotated[str | None, doc("Working directory.")] = None
    env: Annotated[
        list[EnvVar],
        doc(
            "Environment. MASTER_ADDR, MASTER_PORT, WORLD_SIZE, NODE_RANK and PET_* for torchrun are added.",
            max_length=256,
            extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    resources: Annotated[ContainerResources, doc("What each worker needs besides its GPUs.")] = msgspec.field(
        default_factory=ContainerResources
    )
    volume_mounts: Annotated[list[ANY], doc("As in core/v1.", max_length=64)] = []
    security_context: Annotated[ANY | None, doc("As in core/v1.")] = None


class WorkerSpec(Camel, kw_only=True):
    """spec.template.spec: what most workers need of a pod."""

    containers: Annotated[
        list[Container],
        doc("Containers of a worker; the first one gets the GPUs.", min_length=1, max_length=16),
    ]
    volumes: Annotated[list[ANY], doc("As in core/v1.", max_length=64)] = []
    node_selector: Annotated[dict[str, _LABEL], doc("Labels that a node must have.", max_length=32)] = {}
    tolerations: Annotated[list[ANY], doc("As in core/v1. That of the GPU taint is added.", max_length=32)] = []
    service_account_name: Annotated[str | None, doc("As in core/v1.")] = None
    image_pull_secrets: Annotated[list[ANY], doc("As in core/v1.", max_length=16)] = []
    priority_class_name: Annotated[str | None, doc("As in core/v1.")] = None
    runtime_class_name: Annotated[str | None, doc("As in core/v1.")] = None
    security_context: Annotated[ANY | None, doc("As in core/v1.")] = None
    termination_grace_period_seconds: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=86_400)] | None,
        doc("Time for a last checkpoint between SIGTERM and SIGKILL."),
    ] = None


class TemplateMeta(Camel, kw_only=True):
    """spec.template.metadata"""

    labels: Annotated[dict[str, _LABEL], doc("Labels of the pods.", max_length=64)] = {}
    annotations: Annotated[
        dict[str, Annotated[str, msgspec.Meta(max_length=16_384)]], doc("Annotations of the pods.", max_length=64)
    ] = {}


class Template(Camel, kw_only=True):
    """spec.template"""

    metadata: Annotated[TemplateMeta, doc("Labels and annotations of the pods.")] = msgspec.field(
        default_factory=TemplateMeta
    )
    spec: Annotated[WorkerSpec, doc("One worker.")]
