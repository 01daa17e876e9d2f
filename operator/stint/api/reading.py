"""Files as people write them: JSON or YAML into our types, with every mistake at once, each with its path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import jsonschema
import msgspec

from stint.api import yaml_text
from stint.errors import InvalidInputError, Mistake

_T = TypeVar("_T")


def decode(text: bytes | str, *, name: str) -> Any:
    """Of JSON, or of YAML.

    Raises:
        InvalidInputError: it is neither.
    """
    try:
        return yaml_text.read(text) if text.strip()[:1] not in (b"{", "{") else _json_or_flow(text)
    except (yaml_text.YamlTextError, RecursionError) as error:
        raise InvalidInputError(name, [Mistake("the file", str(error), "must be JSON or YAML")]) from error


def _json_or_flow(text: bytes | str) -> Any:
    """YAML, too, may begin with a brace."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return yaml_text.read(text)


def convert(data: object, kind: type[_T], *, name: str) -> _T:
    """Into a type of ours.

    Raises:
        InvalidInputError: with every mistake.
    """
    data = _dates_as_text(data)
    errors = jsonschema.Draft202012Validator(msgspec.json.schema(kind)).iter_errors(data)
    if mistakes := sorted(_mistakes(errors), key=lambda m: m.path):
        raise InvalidInputError(name, mistakes)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `")
        raise InvalidInputError(name, [Mistake(path.strip("`$.") or "the file", text, "see the message")]) from error


def _dates_as_text(value: Any) -> Any:
    """YAML reads dates where JSON, and so the schema, has text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(k): _dates_as_text(v) for k, v in value.items()}
    return [_dates_as_text(v) for v in value] if isinstance(value, list) else value


def _mistakes(errors: Iterable[jsonschema.ValidationError]) -> Iterable[Mistake]:
    for error in errors:
        if error.validator in ("anyOf", "oneOf") and error.context:
            deepest = max(error.context, key=lambda e: len(e.absolute_path))
            if len(deepest.absolute_path) > len(error.absolute_path):
                yield from _mistakes([e for e in error.context if len(e.absolute_path) == len(deepest.absolute_path)])
                continue
            if inside := [e for e in error.context if e.validator != "type"]:
                yield from _mistakes(inside)  # of the right kind, and something else is wrong
                continue
        yield Mistake(_path(error.absolute_path), _short(error.instance), error.message[:200])


def _path(parts: Iterable[Any]) -> str:
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts)
    return text.removeprefix(".") or "the file"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
