"""A pool for each adapter, over an API server in memory. The next adapter adds a world to `WORLDS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stint.capacity.adapter import Target
from stint.model.job import NodeName
from stint.testing.fake_api import FakeApi
from stint.testing.suites import CapacityWorld

NODES = "/api/v1/nodes"


class FakeNodes:
    """Node objects are the nodes."""

    target: Target | None = None

    def __init__(self) -> None:
        self.api = FakeApi()

    def nodes(self) -> tuple[NodeName, ...]:
        return tuple(NodeName(path.rpartition("/")[2]) for path in self.api.objects if path.startswith(NODES))


class Replicas:
    """A MachineDeployment, with as many nodes as its scale says."""

    target: Target | None = Target(
        api_version="cluster.x-k8s.io/v1beta2", resource="machinedeployments", namespace="infra", name="gpus"
    )
    scale = "/apis/cluster.x-k8s.io/v1beta2/namespaces/infra/machinedeployments/gpus/scale"

    def __init__(self, replicas: int = 0) -> None:
        self.api = FakeApi({self.scale: {"spec": {"replicas": replicas}}})

    @property
    def replicas(self) -> int:
        count: int = self.api.objects[self.scale]["spec"]["replicas"]
        return count

    def another_client_writes(self, replicas: int) -> None:
        self.api.put(self.scale, {"spec": {"replicas": replicas}})

    def nodes(self) -> tuple[NodeName, ...]:
        return tuple(NodeName(f"machine-{i}") for i in range(self.replicas))


WORLDS: Mapping[str, Callable[[], CapacityWorld]] = {"Scale": Replicas, "Kwok": FakeNodes}
