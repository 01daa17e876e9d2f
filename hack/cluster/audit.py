"""Which requests an API server notes, so that tests can count what was written, and see what the operator asks for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

AUDIT_POLICY = """apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - {level: Metadata, verbs: [create, update, patch, delete]}
  - {level: Metadata, users: ["system:serviceaccount:stint-system:stint"]}
  - {level: None}
"""


def own_writes(log: Path) -> Iterator[dict[str, Any]]:
    """The operator's successful writes, in order, as audit events."""
    for event in map(json.loads, log.read_text().splitlines()):
        if (
            event["verb"] in ("create", "update", "patch", "delete")
            and event["user"].get("username", "").endswith(":stint")
            and event.get("responseStatus", {}).get("code", 500) < 300
        ):
            yield event
