"""Anything with a scale subresource: a MachineDeployment, a Karpenter NodePool with replicas, an operator of yours."""

from __future__ import annotations

from datetime import datetime

from stint.api.gpupool import GPUPool
from stint.kube.client.api import MERGE, Api
from stint.model.market import Offering
from stint.model.plan import Resize


class ScaleAdapter:
    """Writes spec.replicas of the target's scale, an absolute number."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def resize(self, pool: GPUPool, offering: Offering, resize: Resize, *, now: datetime) -> None:
        """See `PoolAdapter`. The target chooses itself which nodes go, so a shrinking resize names all or none."""
        del offering, now
        scaler = pool.spec.scaler
        assert scaler is not None
        target = scaler.target
        assert target is not None
        group = f"/api/{target.api_version}" if "/" not in target.api_version else f"/apis/{target.api_version}"
        inside = f"/namespaces/{target.namespace}" if target.namespace else ""
        path = f"{group}{inside}/{target.resource}/{target.name}/scale"
        await self._api.patch(path, {"spec": {"replicas": resize.to_nodes}}, content_type=MERGE)
