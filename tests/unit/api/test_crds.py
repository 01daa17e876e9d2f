"""The CRDs themselves; that the API server takes them, and what it refuses, is shown end to end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stint.api.crds import KINDS, definition


def _fields(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}", child
        yield from _fields(child, f"{path}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from _fields(schema["items"], f"{path}[]")


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.kind)
class TestEveryKind:
    def _schema(self, kind: Any) -> dict[str, Any]:
        schema: dict[str, Any] = definition(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        return schema

    def test_every_field_is_explained(self, kind):
        fields = dict(_fields(self._schema(kind)))
        silent = [p for p, f in fields.items() if not f.get("description") and p.startswith((".spec.", ".status."))]
        assert silent == []

    def test_every_list_and_map_in_the_spec_is_bounded(self, kind):
        spec = self._schema(kind)["properties"]["spec"]
        loose = [
            path
            for path, field in _fields(spec)
            if (field.get("type") == "array" and "maxItems" not in field)
            or (isinstance(field.get("additionalProperties"), dict) and "maxProperties" not in field)
        ]
        assert loose == []

    def test_status_is_a_subresource_and_money_is_in_the_columns(self, kind):
        version = definition(kind)["spec"]["versions"][0]
        assert ("status" in version["subresources"]) == (kind.status is not None)
        assert {c["name"] for c in version["additionalPrinterColumns"]} & {"$/H", "$/GPU-H", "Stale", "USD"}

    def test_it_can_be_called_by_a_short_name(self, kind):
        names = definition(kind)["spec"]["names"]
        assert (names["shortNames"], names["categories"]) == ([kind.short], ["stint"])
