"""What a simulated month starts from: what there is, what will come, and how the world behaves. Frozen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from stint.errors import InvalidInputError, Mistake
from stint.model.job import Job
from stint.model.market import Offering, Pool
from stint.model.offering import OfferingId
from stint.model.situation import Rates, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """How the world treats those who live in it. What is believed of it stands in the offerings."""

    interruptions_per_hour: Mapping[OfferingId, float] = field(default_factory=dict)  # of a node; else as believed
    notice_s: float = 120.0  # from the word that a node is taken until it is
    start_sigma: float = 0.0  # of the logarithm of how long a node takes to come, over what is expected
    out_of_stock: float = 0.0  # part of all ordered nodes that never come
    worker_failures_per_hour: float = 0.0  # of one worker that works, by itself
    evictions_per_hour: float = 0.0  # of one worker that works, by something else than Stint
    hung_starts: float = 0.0  # part of all starts in which one worker never runs
    stock: Mapping[OfferingId, int] = field(default_factory=dict)  # nodes that the provider has at a time; else enough


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everything but the policy and the dice."""

    name: str
    start: datetime  # aware, UTC
    offerings: tuple[Offering, ...]
    pools: tuple[Pool, ...]
    standing: Mapping[OfferingId, int] = field(default_factory=dict)  # nodes that are there from the start to the end
    jobs: tuple[Job, ...] = ()  # `created` is when each is submitted
    rates: Rates = field(default_factory=Rates)
    settings: Settings = field(default_factory=Settings)
    conditions: Conditions = field(default_factory=Conditions)
    every_s: float = 60.0  # at most one decision in so long
    until_s: float | None = None  # nothing is looked at after it; None: until the last job has ended

    def __post_init__(self) -> None:
        """Two jobs of one id would be one to the world, and half of the work would be forgotten.

        Raises:
            InvalidInputError: with every id that is there more than once.
        """
        twice = sorted(job for job, count in Counter(j.id for j in self.jobs).items() if count > 1)
        if twice:
            text = "is there more than once; every job needs an id of its own"
            raise InvalidInputError(self.name, [Mistake("jobs", repr(job), text) for job in twice])
