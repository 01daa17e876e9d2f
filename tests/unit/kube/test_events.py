"""The same event again is counted on the first one, and rarely."""

from __future__ import annotations

from typing import Any

import pytest

from stint.kube.client import events
from stint.kube.client.api import Api
from stint.kube.client.events import About, Recorder

ABOUT = About("stint.dev/v1alpha1", "TrainingJob", "team", "unet", "u")


class Notebook(Api):
    """Notes what is written."""

    def __init__(self) -> None:  # opens no session
        self.written: list[tuple[str, Any]] = []

    async def create(self, path: str, body: Any) -> Any:
        assert path.endswith("/events")
        self.written.append(("POST", body))

    async def patch(self, path: str, body: Any, *, content_type: str = "") -> Any:
        assert "/events/unet." in path
        assert content_type.startswith("application/merge-patch")
        self.written.append(("PATCH", body))


async def test_it_is_written_once_and_counted_a_minute_later(monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(events.time, "monotonic", lambda: now[0])
    api = Notebook()
    recorder = Recorder(api, "me")
    for at in (0.0, 10.0, 59.0, 61.0, 62.0):
        now[0] = at
        await recorder.tell(ABOUT, "Refused", "no", action="Queued", warning=True)
    assert [verb for verb, _ in api.written] == ["POST", "PATCH"]
    assert api.written[1][1]["series"]["count"] == 4
