"""From typed structs to the structural schema of a CustomResourceDefinition.

A field says what it is with `doc(...)`: the text of `kubectl explain`, bounds, and CEL rules whose messages a person
can act on. Everything is bounded, because the API server refuses CEL rules over unbounded lists and maps.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import inspect


def doc(
    text: str, *, cel: tuple[tuple[str, str], ...] = (), extra: dict[str, Any] | None = None, **bounds: Any
) -> msgspec.Meta:
    """A field's annotation: its text, its bounds (`ge`, `le`, `pattern`, ...), CEL rules as (rule, message)."""
    more: dict[str, Any] = dict(extra or {})
    if cel:
        more["x-kubernetes-validations"] = [rule(r, m) for r, m in cel]
    return msgspec.Meta(description=text, extra_json_schema=more or None, **bounds)


def rule(expression: str, message: str) -> dict[str, str]:
    """One entry of x-kubernetes-validations. A message in `{{ }}` is itself CEL."""
    if message.startswith("{{"):
        return {"rule": expression, "messageExpression": message.strip("{} ")}
    return {"rule": expression, "message": message}


PRESERVE = {"x-kubernetes-preserve-unknown-fields": True}


def structural(kind: type[msgspec.Struct]) -> dict[str, Any]:
    """The schema of one struct, nested ones in place."""
    return _schema(inspect.type_info(kind))


def _schema(info: inspect.Type) -> dict[str, Any]:
    if isinstance(info, inspect.Metadata):
        return {**_schema(info.type), **(info.extra_json_schema or {})}
    if isinstance(info, inspect.UnionType):
        (kind,) = [t for t in info.types if not isinstance(t, inspect.NoneType)]
        return _schema(kind)
    if isinstance(info, inspect.StructType):
        return _object(info)
    if isinstance(info, inspect.EnumType):
        return {"type": "string", "enum": [member.value for member in info.cls]}
    if isinstance(info, inspect.LiteralType):
        return {"type": "string", "enum": list(info.values)}
    if isinstance(info, inspect.StrType):
        return _bounded(
            {"type": "string"}, info, ("min_length", "minLength"), ("max_length", "maxLength"), ("pattern", "pattern")
        )
    if isinstance(info, inspect.BoolType):
        return {"type": "boolean"}
    if isinstance(info, inspect.IntType):
        return _number({"type": "integer", "format": "int64"}, info)
    if isinstance(info, inspect.FloatType):
        return _number({"type": "number"}, info)
    if isinstance(info, inspect.DateTimeType):
        return {"type": "string", "format": "date-time"}
    if isinstance(info, inspect.DictType):
        return _map(info)
    if isinstance(info, (inspect.ListType, inspect.VarTupleType)):
        schema = {"type": "array", "items": _schema(info.item_type)}
        return _bounded(schema, info, ("min_length", "minItems"), ("max_length", "maxItems"))
    raise TypeError(f"no schema for {info}")


def _map(info: inspect.DictType) -> dict[str, Any]:
    if isinstance(info.value_type, inspect.AnyType):
        return {"type": "object", **PRESERVE}
    schema = {"type": "object", "additionalProperties": _schema(info.value_type)}
    return _bounded(schema, info, ("min_length", "minProperties"), ("max_length", "maxProperties"))


def _bounded(schema: dict[str, Any], info: object, *names: tuple[str, str]) -> dict[str, Any]:
    for ours, theirs in names:
        value = getattr(info, ours, None)
        if value is not None:
            schema[theirs] = value
    return schema


def _number(schema: dict[str, Any], info: inspect.IntType | inspect.FloatType) -> dict[str, Any]:
    for low, exclusive in ((info.ge, False), (info.gt, True)):
        if low is not None:
            schema["minimum"] = low
            if exclusive:
                schema["exclusiveMinimum"] = True
    for high, exclusive in ((info.le, False), (info.lt, True)):
        if high is not None:
            schema["maximum"] = high
            if exclusive:
                schema["exclusiveMaximum"] = True
    return schema


def _object(info: inspect.StructType) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    required = []
    for field in info.fields:
        properties[field.encode_name] = _property(field)
        if field.required:
            required.append(field.encode_name)
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    return schema


def _property(field: inspect.Field) -> dict[str, Any]:
    schema = _schema(field.type)
    text = _text(field.type)
    if text:
        schema = {"description": text, **schema}
    if isinstance(field.default, (bool, int, float, str)):
        schema["default"] = getattr(field.default, "value", field.default)
    elif field.default_factory is not msgspec.NODEFAULT and schema["type"] == "object" and "properties" in schema:
        schema["default"] = {}  # so that the defaults inside it show
    return schema


def _text(info: inspect.Type) -> str:
    return str((getattr(info, "extra_json_schema", None) or {}).get("description", ""))
