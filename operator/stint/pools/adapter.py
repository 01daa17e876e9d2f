"""What a pool adapter is. See `stint.testing.suites` for what every one must pass."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol, runtime_checkable

from stint.api.gpupool import GPUPool
from stint.model.market import Offering
from stint.model.plan import Resize


@runtime_checkable
class PoolAdapter(Protocol):
    """Brings a pool to a number of nodes. Asking twice asks for nothing twice."""

    async def resize(self, pool: GPUPool, offering: Offering, resize: Resize, *, now: datetime) -> None:
        """Carry out one resize.

        Raises:
            ApiError: the API server refuses.
        """
        ...
