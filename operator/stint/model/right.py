"""What an operator must be allowed to do, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource."""

    verb: str
    group: str  # empty: the core group
    resource: str  # with its subresource, if any: pods/status
    why: str  # completes "so that ..."
    own_namespace: bool = False  # only where the operator itself lives
    name: str = ""  # only the object of this name

    def __str__(self) -> str:
        """As kubectl auth can-i takes it."""
        where = self.resource + (f".{self.group}" if self.group else "")
        return f"{self.verb} {where}" + (f" {self.name}" if self.name else "")


def rights(
    verbs: str, group: str, resource: str, why: str, *, own_namespace: bool = False, name: str = ""
) -> tuple[Right, ...]:
    """One for each of several verbs: "list watch"."""
    return tuple(Right(verb, group, resource, why, own_namespace, name) for verb in verbs.split())
