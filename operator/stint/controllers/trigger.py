"""What starts a cycle: any change, taken together with those that follow at once."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

QUIET_S = 0.03  # without a trigger, before a cycle begins
PATIENCE_S = 1.0  # then it begins anyway
TICK_S = 5.0  # time passes although nothing triggers a cycle


@dataclass(slots=True)
class Trigger:
    """Something has changed."""

    event: asyncio.Event = field(default_factory=asyncio.Event)

    def fire(self) -> None:
        """Ask for a cycle."""
        self.event.set()

    async def fired(self, tick_s: float = TICK_S) -> None:
        """Wait for a trigger, then for quiet, but not for ever."""
        try:
            await asyncio.wait_for(self.event.wait(), tick_s)
        except TimeoutError:
            return
        first = asyncio.get_running_loop().time()
        while self.event.is_set() and asyncio.get_running_loop().time() - first < PATIENCE_S:
            self.event.clear()
            await asyncio.sleep(QUIET_S)
        self.event.clear()
