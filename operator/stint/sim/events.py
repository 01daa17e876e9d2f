"""What happens when: a heap. Things of one instant happen in the order of `Kind`, then as they were foreseen."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from enum import IntEnum


class Kind(IntEnum):
    """What can happen. Declared in the order in which things of one instant do."""

    FINISHED = 0  # a gang has done its work
    WORKS = 1  # a gang has started up
    NODE_UP = 2
    ORDER_LOST = 3  # what was ordered will not come
    NOTICE = 4  # the provider says that it takes a node
    TAKEN = 5  # and has
    FAILED = 6  # a worker of a gang failed by itself
    EVICTED = 7  # a worker of a gang was evicted
    SUBMIT = 8
    LOOK = 9  # time for a decision


@dataclass(frozen=True, slots=True, order=True)
class Event:
    """Something foreseen. `turn` tells a gang's second start from its first: news of the first are old then."""

    at_s: float  # since the start of the scenario
    kind: Kind
    number: int
    subject: str = field(compare=False)  # a job or a node
    turn: int = field(default=0, compare=False)


class Events:
    """What is still to come."""

    def __init__(self) -> None:
        self._heap: list[Event] = []
        self._number = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._heap)

    def foresee(self, at_s: float, kind: Kind, subject: str = "", turn: int = 0) -> None:
        """Add one."""
        heapq.heappush(self._heap, Event(at_s, kind, next(self._number), subject, turn))

    @property
    def next_s(self) -> float:
        """When the next one is; inf: there is none."""
        return self._heap[0].at_s if self._heap else float("inf")

    def pop(self) -> Event:
        """The next one.

        Raises:
            IndexError: if there is none.
        """
        return heapq.heappop(self._heap)
