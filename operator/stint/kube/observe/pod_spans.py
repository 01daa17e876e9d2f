"""What the workers of every job did and when: spans of time, from the pods that are there and those that are gone."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from stint.kube.records import GangPod, NodeRecord, PodRecord
from stint.ledger.book import Span
from stint.ledger.days import NodeSpan
from stint.model.market import Offering
from stint.model.offering import OfferingId


@dataclass(slots=True)
class _Entry:
    record: PodRecord
    owner: str
    span: Span
    gone: bool = False


@dataclass(slots=True)
class Worktimes:
    """The spans of all jobs, by the uid of their TrainingJob. Spans of pods that are gone are kept until `settle`."""

    of: Callable[[datetime], datetime]  # from the wall's clock to the one that decisions go by
    _now: datetime | None = None  # when we look, by the clock that decisions go by
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _spans: dict[str, dict[str, Span]] = field(default_factory=dict)  # by owner, then by pod

    def look(
        self,
        pods: Iterable[PodRecord],
        gone: Iterable[tuple[PodRecord, datetime]],
        *,
        owner: Callable[[GangPod], str | None],
        offering: Callable[[str, GangPod], Offering | None],
        now: datetime,
    ) -> None:
        """Take in how pods are now, and which have gone since the last look.

        Args:
            gone: pods as they were in the end, and when we were told of that on the wall's clock.
            owner: whose worker a pod is, by uid; None: nobody's that we know.
            offering: of a node, by its name; None: nothing is known of it.
            now: what a node's clock says to be later than that is not believed of an end.
        """
        self._now = now
        for pod in pods:
            if pod.gang is not None and pod.node:
                entry = self._entries.get(pod.uid)
                if entry is None or entry.record is not pod:
                    self._take(pod, pod.gang, entry, None, owner, offering)
        for pod, at in gone:
            if pod.gang is not None and pod.node:
                self._take(pod, pod.gang, self._entries.get(pod.uid), at, owner, offering)

    def _take(
        self,
        pod: PodRecord,
        gang: GangPod,
        entry: _Entry | None,
        gone: datetime | None,
        owner: Callable[[GangPod], str | None],
        offering: Callable[[str, GangPod], Offering | None],
    ) -> None:
        if entry is None:
            whose, where = owner(gang), offering(pod.node, gang)
            start = gang.times.bound or gang.created
            if whose is None or where is None or start is None:
                return
            span = _begin(pod, gang, where, self.of(start))
        else:
            whose, span = entry.owner, entry.span
        span = self._follow(span, pod, gang, gone)
        self._entries[pod.uid] = _Entry(pod, whose, span, gone is not None)
        self._spans.setdefault(whose, {})[pod.uid] = span

    def _follow(self, span: Span, pod: PodRecord, gang: GangPod, gone: datetime | None) -> Span:
        times = gang.times
        works = span.works or (self.of(times.works) if times.works else None)
        end = times.end
        if end is None and pod.phase in ("Succeeded", "Failed"):
            # At least from then on nobody vouches for it. One that its kubelet has refused tells no other time.
            end = times.leaving or times.works or times.bound or gang.created
        elif end is None:
            end = gone  # it went without a word of its containers' end, as with a node that is lost
        over = self.of(end) if end else None
        if over is not None and self._now is not None and over > self._now:
            over = span.end or self._now
        return replace(
            span,
            works=works,
            leaving=span.leaving or (self.of(times.leaving) if times.leaving else None),
            end=max(over, span.start) if over else None,
            finished=pod.phase == "Succeeded",
        )

    def spans(self, owner: str) -> tuple[Span, ...]:
        """Of one job."""
        return tuple(self._spans.get(owner, {}).values())

    def begun(self, nodes: Container[str]) -> dict[str, list[datetime]]:
        """Since when workers are, or were, on some nodes."""
        found: dict[str, list[datetime]] = {}
        for entry in self._entries.values():
            if entry.record.node in nodes:
                found.setdefault(entry.record.node, []).append(entry.span.start)
        return found

    def settle(self, through: Mapping[str, datetime]) -> None:
        """Forget pods that are gone and booked for good: by owner, until when. Of other owners all that are gone."""
        for uid, entry in list(self._entries.items()):
            if not entry.gone:
                continue
            until = through.get(entry.owner)
            if until is None or (entry.span.end is not None and entry.span.end <= until):
                del self._entries[uid]
                own = self._spans[entry.owner]
                del own[uid]
                if not own:
                    del self._spans[entry.owner]


def _begin(pod: PodRecord, gang: GangPod, offering: Offering, start: datetime) -> Span:
    takes = replace(pod.requests, gpus=pod.requests.gpus + (pod.slices if offering.slices else 0))
    return Span(
        run=gang.run,
        offering=offering.id,
        share=takes.share_of(offering.per_node),
        gpus=offering.whole_gpus(takes.gpus),
        start=start,
    )


@dataclass(slots=True)
class NodeTimes:
    """Since when each node is there, and which offering it is."""

    of: Callable[[datetime], datetime]
    _spans: dict[str, NodeSpan] = field(default_factory=dict)  # by uid

    def look(
        self,
        nodes: Iterable[NodeRecord],
        gone: Iterable[tuple[NodeRecord, datetime]],
        offering: Callable[[str], Offering | None],
        *,
        now: datetime,
    ) -> None:
        """Take in which nodes there are now, and which have gone since the last look."""
        for node in nodes:
            what = offering(node.name)
            if what is None or not what.per_node.gpus:
                continue
            known = self._spans.get(node.uid)
            if known is None or known.offering != what.id:
                start = known.start if known else self.of(node.created) if node.created else now
                self._spans[node.uid] = NodeSpan(
                    offering=OfferingId(what.id), gpus=what.whole_gpus(what.per_node.gpus), start=start
                )
        for record, at in gone:
            span = self._spans.get(record.uid)
            if span is not None:
                self._spans[record.uid] = replace(span, end=max(self.of(at), span.start))

    def spans(self) -> tuple[NodeSpan, ...]:
        """All of them."""
        return tuple(self._spans.values())

    def settle(self, through: datetime) -> None:
        """Forget nodes that are gone and booked."""
        self._spans = {u: s for u, s in self._spans.items() if s.end is None or s.end > through}
