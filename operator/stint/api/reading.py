"""Files as people write them: JSON or YAML into our types, with every mistake at once, each with its path."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import jsonschema
import msgspec

from stint.errors import InvalidInputError, Mistake

_T = TypeVar("_T")


def decode(text: bytes | str, *, name: str) -> Any:
    """Of JSON, or of YAML.

    Raises:
        InvalidInputError: it is neither.
    """
    try:
        return msgspec.yaml.decode(text) if text.strip()[:1] not in (b"{", "{") else msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise InvalidInputError(name, [Mistake("the file", str(error), "must be JSON or YAML")]) from error


def convert(data: object, kind: type[_T], *, name: str) -> _T:
    """Into a type of ours.

    Raises:
        InvalidInputError: with every mistake.
    """
    errors = jsonschema.Draft202012Validator(msgspec.json.schema(kind)).iter_errors(data)
    if mistakes := sorted(mistakes_of(errors), key=lambda m: m.path):
        raise InvalidInputError(name, mistakes)
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        text, _, path = str(error).partition(" - at `")
        raise InvalidInputError(name, [Mistake(path.strip("`$.") or "the file", text, "see the message")]) from error


def mistakes_of(errors: Iterable[jsonschema.ValidationError]) -> Iterable[Mistake]:
    """What a schema finds wrong with a file, each with its path."""
    for error in errors:
        if error.validator in ("anyOf", "oneOf") and error.context:
            deepest = max(error.context, key=lambda e: len(e.absolute_path))
            if len(deepest.absolute_path) > len(error.absolute_path):
                yield from mistakes_of([e for e in error.context if len(e.absolute_path) == len(deepest.absolute_path)])
                continue
        yield Mistake(_path(error.absolute_path), _short(error.instance), error.message[:200])


def _path(parts: Iterable[Any]) -> str:
    text = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in parts)
    return text.removeprefix(".") or "the file"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
