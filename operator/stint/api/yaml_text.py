"""YAML as people write it in annotations and files: as much of it as JSON can say, with its size and depth bounded.

The parser's events are looked at one by one before anything is built of them. Aliases and anchors are refused, since a
few lines of them stand for megabytes; tags, since they choose what is built; keys that are no text, since `4090:` is a
number in YAML and a text in JSON; and what is deeper or longer than the reader allows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

MOST_LEVELS = 64
MOST_TEXT = 2**26  # bytes of a file
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_LONGEST_QUOTE = 40
_BOOL, _INT, _FLOAT = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
_NULL, _TIMESTAMP, _TEXT = "tag:yaml.org,2002:null", "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:str"
_SAYS = {_BOOL: "true or false", _INT: "a number", _FLOAT: "a number", _NULL: "nothing", _TIMESTAMP: "a date"}


class YamlTextError(ValueError):
    """What cannot be used, where it stands, and what to write instead."""


@dataclass(slots=True)
class _Open:
    """A mapping or a list that has not ended."""

    path: str
    held: dict[str, Any] | list[Any]
    key: str | None = None  # of a mapping: the key whose value comes next

    def next_path(self) -> str:
        if isinstance(self.held, list):
            return f"{self.path}[{len(self.held)}]"
        return f"{self.path}.{self.key}" if self.path else str(self.key)


def read(
    text: str | bytes, *, most_text: int = MOST_TEXT, most_levels: int = MOST_LEVELS, number_keys: bool = False
) -> Any:
    """The one document of a text; None: it is empty.

    Args:
        number_keys: a number may be a key, and is read as the text that it is written as.
    Raises:
        YamlTextError: it cannot be used.
    """
    found = read_all(text, most_text=most_text, most_levels=most_levels, number_keys=number_keys)
    if len(found) > 1:
        raise YamlTextError(f"it has {len(found)} documents; write one, without ---")
    return found[0] if found else None


def read_all(
    text: str | bytes, *, most_text: int = MOST_TEXT, most_levels: int = MOST_LEVELS, number_keys: bool = False
) -> list[Any]:
    """All documents of a text.

    Raises:
        YamlTextError: one of them cannot be used.
    """
    if len(text) > most_text:
        raise YamlTextError(f"it has {len(text)} characters; it may have {most_text}")
    try:
        return list(_documents(yaml.parse(text, Loader=_PARSER), most_levels, number_keys))
    except (yaml.YAMLError, UnicodeError) as error:
        raise YamlTextError(f"it is no YAML: {' '.join(str(error).split())[:300]}") from error


def _documents(events: Iterator[yaml.Event], most_levels: int, number_keys: bool) -> Iterator[Any]:
    stack: list[_Open] = []
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            raise YamlTextError(f"{_at(event)}: alias *{event.anchor} is not read; write its value out")
        if isinstance(event, yaml.NodeEvent):
            _refuse_marks(event)
        if isinstance(event, yaml.CollectionStartEvent):
            _open(stack, event, most_levels)
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            value: Any = stack.pop().held
        elif isinstance(event, yaml.ScalarEvent):
            if stack and isinstance(stack[-1].held, dict) and stack[-1].key is None:
                stack[-1].key = _key(stack[-1], event, number_keys)
                continue
            value = _value(event, stack[-1].next_path() if stack else "")
        else:
            continue
        if not stack:
            yield value
        else:
            _put(stack[-1], value)


def _open(stack: list[_Open], event: yaml.CollectionStartEvent, most_levels: int) -> None:
    if stack and isinstance(stack[-1].held, dict) and stack[-1].key is None:
        raise YamlTextError(f"{_at(event)}: a key of {stack[-1].path or 'the mapping'} is no text; write a name")
    if len(stack) >= most_levels:
        raise YamlTextError(f"{_at(event)}: it is nested more than {most_levels} levels deep; write fewer")
    stack.append(_Open(stack[-1].next_path() if stack else "", {} if isinstance(event, yaml.MappingStartEvent) else []))


def _put(holder: _Open, value: Any) -> None:
    if isinstance(holder.held, list):
        holder.held.append(value)
        return
    assert holder.key is not None
    holder.held[holder.key] = value
    holder.key = None


def _refuse_marks(event: yaml.NodeEvent) -> None:
    if event.anchor:
        raise YamlTextError(f"{_at(event)}: anchor &{event.anchor} is not read; leave it out")
    tag = getattr(event, "tag", None)
    if tag is not None and tag != "!":
        raise YamlTextError(f"{_at(event)}: tag {_quoted(tag)} is not read; leave it out")


def _key(holder: _Open, event: yaml.ScalarEvent, number_keys: bool) -> str:
    tag = _tag(event)
    where = holder.path or "the mapping"
    if tag != _TEXT and not (number_keys and tag in (_INT, _FLOAT)):
        kind = _SAYS.get(tag, "no text")
        quoted = f'"{event.value[:_LONGEST_QUOTE]}"'
        raise YamlTextError(f"{where}: key {event.value[:_LONGEST_QUOTE]} is {kind}; write it in quotes: {quoted}")
    assert isinstance(holder.held, dict)
    key = str(event.value)
    if key in holder.held:
        raise YamlTextError(f"{where}: key {_quoted(key)} is there twice; leave one out")
    return key


def _tag(event: yaml.ScalarEvent) -> str:
    if event.implicit[0]:
        return str(_RULES.resolve(yaml.ScalarNode, event.value, (True, False)))  # type: ignore[no-untyped-call]
    return _TEXT


_RULES = yaml.resolver.Resolver()
_BUILD = yaml.constructor.SafeConstructor()


def _value(event: yaml.ScalarEvent, path: str) -> Any:
    tag = _tag(event)
    node = yaml.ScalarNode(tag, event.value)
    try:
        if tag == _NULL:
            return None
        if tag == _BOOL:
            return _BUILD.construct_yaml_bool(node)
        if tag == _INT:
            return _within_64_bits(_BUILD.construct_yaml_int(node))
        if tag == _FLOAT:
            return _BUILD.construct_yaml_float(node)
        if tag == _TIMESTAMP:
            return _BUILD.construct_yaml_timestamp(node).isoformat()
    except (ValueError, IndexError, KeyError, OverflowError) as error:
        text = f"{path or 'the value'}: {_quoted(event.value)} is no value ({error}); write a text in quotes"
        raise YamlTextError(text) from error
    return str(event.value)


def _within_64_bits(number: int) -> int:
    if not -(2**63) <= number < 2**64:
        raise ValueError("it has more than 64 bits")
    return number


def _at(event: yaml.Event) -> str:
    mark = event.start_mark
    return f"line {mark.line + 1}" if mark is not None else "somewhere"


def _quoted(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 3]}...")
