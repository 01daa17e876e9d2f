"""How the gate hands our label down to what a workload's pods are made from, said once for both forms of the gate.

The chart's admission policies evaluate it as CEL, the operator's webhook as Python. Paths name templates:
`spec.template`; each of a list, `spec.replicatedJobs[].template`; each of a map, `spec.pytorchReplicaSpecs{}.template`;
a list that may be missing, `spec.workerGroupSpecs?[].template`; a template that may be, `spec.leaderTemplate?`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

MANAGED = "stint.dev/managed"  # on what people have Stint place for them
Ops = list[dict[str, Any]]  # a JSON patch

_EACH = re.compile(r"(?P<where>[\w.]+)(?P<optional>\??)(?P<many>\[\]|\{\})\.(?P<inside>[\w.]+)")
_IN_POINTER = MANAGED.replace("/", "~1")


@runtime_checkable
class HandsDown(Protocol):
    """The two forms of one rule."""

    @property
    def operations(self) -> Sequence[str]:
        """Which writes of the workload the gate looks at: CREATE, UPDATE."""
        ...

    @property
    def condition(self) -> str:
        """CEL: whether the rule applies; empty: always."""
        ...

    @property
    def expression(self) -> str:
        """CEL: the JSON patch, a list."""
        ...

    def ops(self, operation: str, thing: Mapping[str, Any]) -> Ops:
        """The same JSON patch of an object, empty where the condition does not hold."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelTemplates:
    """Labels every template that it has. See the module for how they are named."""

    templates: tuple[str, ...]
    while_suspended: bool = False  # also where a suspended one is changed, as its templates may be then

    @property
    def operations(self) -> Sequence[str]:
        """See `HandsDown`."""
        return ("CREATE", "UPDATE") if self.while_suspended else ("CREATE",)

    @property
    def condition(self) -> str:
        """See `HandsDown`."""
        if not self.while_suspended:
            return ""
        return "request.operation == 'CREATE' || (has(object.spec.suspend) && object.spec.suspend)"

    @property
    def expression(self) -> str:
        """See `HandsDown`."""
        return " +\n".join(_cel(template) for template in self.templates)

    def ops(self, operation: str, thing: Mapping[str, Any]) -> Ops:
        """See `HandsDown`."""
        if operation == "UPDATE" and not (self.while_suspended and thing["spec"].get("suspend")):
            return []
        return [op for path in self.templates for where, found in _found(thing, path) for op in _labelled(where, found)]


def _cel(path: str) -> str:
    each = _EACH.fullmatch(path)
    if each is None:
        plain = path.removesuffix("?")
        label = f"[{_cel_label(f'object.{plain}', _quoted('/' + plain.replace('.', '/')))}]"
        return f"(has(object.{plain}) ? {label} : [])" if plain != path else label
    where, inside = each["where"], each["inside"]
    key = "i" if each["many"] == "[]" else "k"
    index = "string(i)" if key == "i" else "k"
    before, after = _quoted("/" + where.replace(".", "/") + "/"), _quoted("/" + inside.replace(".", "/"))
    label = _cel_label(f"t.{inside}", f"{before} + {index} + {after}")
    mapped = f"object.{where}.transformList({key}, t, {label})"
    return f"(has(object.{where}) ? {mapped} : [])" if each["optional"] else mapped


def _cel_label(template: str, pointer: str) -> str:
    return (
        f"!has({template}.metadata) ?\n"
        f'  JSONPatch{{op: "add", path: {pointer} + "/metadata", value: {{"labels": {{"{MANAGED}": "true"}}}}}} :\n'
        f"!has({template}.metadata.labels) ?\n"
        f'  JSONPatch{{op: "add", path: {pointer} + "/metadata/labels", value: {{"{MANAGED}": "true"}}}} :\n'
        f'  JSONPatch{{op: "add", path: {pointer} + "/metadata/labels/{_IN_POINTER}",\n'
        f'    value: "{MANAGED}" in {template}.metadata.labels ? {template}.metadata.labels["{MANAGED}"] : "true"}}'
    )


def _quoted(text: str) -> str:
    return f'"{text}"'


def _found(thing: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each template that a path names, with where it is, as a JSON pointer."""
    each = _EACH.fullmatch(path)
    if each is None:
        plain = path.removesuffix("?")
        *holders, last = plain.split(".")
        if plain == path or _inside(thing, ".".join(holders)).get(last) is not None:
            yield "/" + plain.replace(".", "/"), _inside(thing, plain)
        return
    holder = thing
    for key in each["where"].split("."):
        holder = holder.get(key)
    items = holder.items() if isinstance(holder, dict) else enumerate(holder or ())
    for key, item in items:
        pointer = f"{each['where']}.{key}.{each['inside']}".replace(".", "/")
        yield f"/{pointer}", _inside(item, each["inside"])


def _inside(thing: Any, path: str) -> dict[str, Any]:
    for key in path.split("."):
        thing = thing[key]
    found: dict[str, Any] = thing
    return found


def _labelled(path: str, template: Mapping[str, Any]) -> Ops:
    meta = template.get("metadata")
    if meta is None:
        return [{"op": "add", "path": f"{path}/metadata", "value": {"labels": {MANAGED: "true"}}}]
    if meta.get("labels") is None:
        return [{"op": "add", "path": f"{path}/metadata/labels", "value": {MANAGED: "true"}}]
    if MANAGED in meta["labels"]:
        return []
    return [{"op": "add", "path": f"{path}/metadata/labels/{_IN_POINTER}", "value": "true"}]
