from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import msgspec
import pytest

from stint.api.meta import Camel, Condition, condition
from stint.api.schema import PRESERVE, doc, rule, structural
from stint.testing.builders import NOW


class Colour(StrEnum):
    RED = "Red"
    BLUE = "Blue"


class Inner(Camel, kw_only=True):
    how_many: Annotated[int, doc("How many.", ge=1, le=9)] = 3


class Everything(Camel, kw_only=True):
    needed_name: Annotated[str, doc("A name.", min_length=1, max_length=63, pattern="^a")]
    ratio: Annotated[float, doc("A ratio.", gt=0, le=1)] = 0.5
    part: Annotated[float, doc("A part.", ge=0, lt=1)] = 0.5
    colour: Annotated[Colour, doc("A colour.")] = Colour.RED
    on: Annotated[bool, doc("Whether.")] = False
    when: Annotated[datetime | None, doc("When.")] = None
    inner: Annotated[Inner, doc("Nested.")] = msgspec.field(default_factory=Inner)
    maybe: Annotated[Inner | None, doc("Nested, or not.")] = None
    many: Annotated[list[Inner], doc("Several.", max_length=4, extra={"x-kubernetes-list-type": "atomic"})] = (
        msgspec.field(default_factory=list)
    )
    labels: Annotated[dict[str, Annotated[str, msgspec.Meta(max_length=9)]], doc("Labels.", max_length=2)] = (
        msgspec.field(default_factory=dict)
    )
    free: Annotated[dict[str, Any], doc("Anything.")] = msgspec.field(default_factory=dict)
    checked: Annotated[int, doc("Checked.", cel=(("self > 0", "must be more than 0"),))] = 1


SCHEMA = structural(Everything)
FIELDS = SCHEMA["properties"]


def test_fields_are_spelled_as_kubernetes_spells_them_and_only_those_without_a_default_are_required():
    assert SCHEMA["required"] == ["neededName"]
    assert FIELDS["inner"]["properties"] == {
        "howMany": {
            "description": "How many.",
            "type": "integer",
            "format": "int64",
            "minimum": 1,
            "maximum": 9,
            "default": 3,
        }
    }


@pytest.mark.parametrize(
    ("field", "schema"),
    [
        ("neededName", {"type": "string", "minLength": 1, "maxLength": 63, "pattern": "^a"}),
        ("part", {"type": "number", "minimum": 0, "maximum": 1, "exclusiveMaximum": True, "default": 0.5}),
        ("ratio", {"type": "number", "minimum": 0, "exclusiveMinimum": True, "maximum": 1, "default": 0.5}),
        ("colour", {"type": "string", "enum": ["Red", "Blue"], "default": "Red"}),
        ("on", {"type": "boolean", "default": False}),
        ("when", {"type": "string", "format": "date-time"}),
        ("free", {"type": "object", **PRESERVE}),
    ],
)
def test_bounds_and_defaults_arrive(field, schema):
    found = {k: v for k, v in FIELDS[field].items() if k != "description"}
    assert found == schema


def test_defaults_inside_a_struct_show_only_where_the_struct_is_always_there():
    assert FIELDS["inner"]["default"] == {}
    assert "default" not in FIELDS["maybe"]


def test_lists_and_maps_are_bounded_and_keep_what_the_api_server_is_told_of_them():
    many, labels = FIELDS["many"], FIELDS["labels"]
    assert (many["maxItems"], many["x-kubernetes-list-type"]) == (4, "atomic")
    assert many["items"]["type"] == "object"
    assert (labels["maxProperties"], labels["additionalProperties"]) == (2, {"type": "string", "maxLength": 9})


def test_rules_carry_a_message_or_an_expression_that_makes_one():
    assert FIELDS["checked"]["x-kubernetes-validations"] == [{"rule": "self > 0", "message": "must be more than 0"}]
    assert rule("a", "{{ 'b' + self }}") == {"rule": "a", "messageExpression": "'b' + self"}


def test_a_type_that_no_crd_can_express_is_a_bug_that_shows_at_once():
    class Wrong(msgspec.Struct):
        either: int | str

    with pytest.raises((TypeError, ValueError)):
        structural(Wrong)


class TestCondition:
    OLD = Condition(
        type="Placed", status="False", reason="Waits", message="then", last_transition_time=NOW - timedelta(hours=1)
    )

    def _now(self, status: str, reason: str = "Waits", message: str = "now") -> Condition:
        return condition([self.OLD], "Placed", (status, reason, message), now=NOW, generation=7)

    def test_a_new_reason_does_not_move_the_time_of_the_change(self):
        kept = self._now("False", "OtherReason")
        assert (kept.last_transition_time, kept.reason) == (self.OLD.last_transition_time, "OtherReason")
        assert (kept.message, kept.observed_generation) == ("now", 7)

    def test_a_new_status_does(self):
        assert self._now("True").last_transition_time == NOW

    def test_a_message_that_is_too_long_for_the_api_server_is_cut(self):
        assert len(self._now("True", message="x" * 9999).message) == 4096
