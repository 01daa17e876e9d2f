"""Keeps decisions as files that `stint plan -f` and `stint explain -f` read, and that replay to the same bytes."""

from __future__ import annotations

import logging
from pathlib import Path

from stint.api.snapshot import encode
from stint.model.plan import Plan
from stint.model.situation import Situation

log = logging.getLogger(__name__)

KEPT = 200


class DecisionRecorder:
    """A folder of the latest decisions, one file each, named after the time they were made."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._last: tuple[object, ...] = ()

    def keep(self, situation: Situation, plan: Plan) -> None:
        """Store a decision, unless it decides the same as the last one. A full disk costs a file, not a cycle."""
        gist = _gist(plan)
        if gist == self._last or (plan.is_about_newcomers and not plan.placements and not plan.holds):
            return
        self._last = gist
        name = situation.now.strftime("%Y%m%dT%H%M%S.%fZ") + ".json"
        try:
            part = self._folder / f".{name}.part"
            part.write_bytes(encode(situation, plan))
            part.rename(self._folder / name)
            for old in sorted(self._folder.glob("*.json"))[:-KEPT]:
                old.unlink(missing_ok=True)
        except OSError as error:
            log.warning("decision not stored: %s", error)


def _gist(plan: Plan) -> tuple[object, ...]:
    return (
        tuple((p.job, p.nodes) for p in plan.placements),
        tuple((h.job, h.reason) for h in plan.holds),
        tuple(s.job for s in plan.stays),
        tuple((r.job, r.reason) for r in plan.requeues),
        tuple((r.offering, r.to_nodes, r.give_back) for r in plan.resizes),
    )
