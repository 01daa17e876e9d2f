from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stint.api import yaml_text
from stint.api.yaml_text import YamlTextError


def test_what_json_can_say_is_read():
    text = """
    work: {units: 90000, unitsPerSecond: {"4090": 2.5, H100-SXM: 1e3}}
    deadline: 2026-12-24T18:00:00Z
    suspend: false
    budget:
    licences: [a, 'b', "3"]
    """
    assert yaml_text.read(text) == {
        "work": {"units": 90000, "unitsPerSecond": {"4090": 2.5, "H100-SXM": "1e3"}},
        "deadline": "2026-12-24T18:00:00+00:00",
        "suspend": False,
        "budget": None,
        "licences": ["a", "b", "3"],
    }
    assert yaml_text.read("") is None
    assert yaml_text.read_all("a: 1\n---\nb: 2\n") == [{"a": 1}, {"b": 2}]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("work: {unitsPerSecond: {4090: 2}}", 'work.unitsPerSecond: key 4090 is a number; write it in quotes: "4090"'),
        ("on: 1", 'the mapping: key on is true or false; write it in quotes: "on"'),
        ("a: [{2026-01-01: x}]", "a[0]: key 2026-01-01 is a date"),
        ("? [a]\n: b", "a key of the mapping is no text"),
        ("<<: {a: b}", "key << is no text"),
        ("a: 1\na: 2", "key 'a' is there twice"),
        ("&a [*a]", "anchor &a is not read"),
        ("a: *b", "alias *b is not read"),
        ('!!bool "x"', "tag 'tag:yaml.org,2002:bool' is not read"),
        ('!!int ""', "is not read"),
        ("!!python/object/apply:os.system [ls]", "is not read"),
        ("a: 0x_", "'0x_' is no value"),
        ("a: 2026-13-45", "is no value (month must be in 1..12)"),
        ("a: " + "9" * 30, "it has more than 64 bits"),
        ("a: " + "9" * 5000, "is no value"),
        ("a: {", "is no YAML"),
        ("\x00", "is no YAML"),
        ("a: 1\n---\nb: 2", "it has 2 documents"),
        ("- " * 65, "nested more than 64 levels deep"),
        ("[" * 5000, "nested more than 64 levels deep"),
        ("{a: " * 5000, "nested more than 64 levels deep"),
    ],
)
def test_what_cannot_be_used_is_told_with_its_place_and_the_remedy(text, told):
    with pytest.raises(YamlTextError) as refused:
        yaml_text.read(text)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 500


def test_size_is_bounded_before_anything_is_parsed():
    with pytest.raises(YamlTextError, match="it has 101 characters; it may have 100"):
        yaml_text.read("&a " + "x" * 98, most_text=100)


def test_a_scenario_may_have_numbers_as_keys():
    assert yaml_text.read("gpus: {1: 0.5, 8: 0.5}", number_keys=True) == {"gpus": {"1": 0.5, "8": 0.5}}


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.floats(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(text=st.text() | _VALUES.map(repr) | st.text(alphabet="&*!<>[]{}:,-?|'\"#%@ \n\t01aenot~.=/"))
def test_any_text_is_read_or_refused(text):
    try:
        found = yaml_text.read(text, most_levels=8)
    except YamlTextError:
        return
    levels = [found]
    for _ in range(8):
        levels = [v for x in levels for v in (x.values() if isinstance(x, dict) else x if isinstance(x, list) else ())]
    assert not levels
