"""Which news of an object is old: told again, overtaken by the answer to a write of ours, or from before its end."""

from __future__ import annotations

from collections.abc import Collection

_REMEMBERED_GONE = 10_000


def newer(version: str, known: str) -> bool:
    """Resource versions are numbers that grow, as Kubernetes 1.35 made official; any other are only told apart."""
    if version.isdigit() and known.isdigit():
        return int(version) > int(known)
    return version != known


class Versions:
    """The latest resourceVersion of each object of one kind, by uid, and of the ends of those that are no more."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._gone: dict[str, str] = {}

    def stale(self, uid: str, version: str) -> bool:
        """Whether nothing is to be learned from an object of this version."""
        known = self._known.get(uid) or self._gone.get(uid)
        return known is not None and not newer(version, known)

    def learn(self, uid: str, version: str) -> None:
        """It has been taken in."""
        self._known[uid] = version

    def end(self, uid: str, version: str) -> None:
        """It is no more. The answer to a write of ours may come after this news, and must not bring it back."""
        self._gone[uid] = version
        if len(self._gone) > _REMEMBERED_GONE:
            del self._gone[next(iter(self._gone))]
        self._known.pop(uid, None)

    def vanished(self, listed: Collection[str], version: str) -> list[str]:
        """What a list made at `version` ought to have and has not. What is newer than the list came meanwhile."""
        return [uid for uid, known in self._known.items() if uid not in listed and not newer(known, version)]
