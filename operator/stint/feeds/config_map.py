"""CSV and YAML in a ConfigMap: for what people keep in a repository, and for what a CronJob writes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from stint.feeds.feed import FeedError, Reading
from stint.feeds.rows import read_csv, read_yaml, together
from stint.model.figure import Confidence

GetObject = Callable[[str], Awaitable[Any]]  # from the API server, by path; raises FeedError


@dataclass(frozen=True, slots=True)
class ConfigMapFeed:
    """One ConfigMap. What is taken out of it is withdrawn; what it says of no time is of unknown age."""

    name: str
    get: GetObject
    namespace: str
    config_map: str
    key: str = ""  # empty: all of its .csv, .yaml and .yml

    async def read(self, now: datetime) -> Reading:
        """See `Feed`."""
        found = await self.get(f"/api/v1/namespaces/{self.namespace}/configmaps/{self.config_map}")
        files: dict[str, str] = found.get("data") or {}
        there = ", ".join(sorted(files)) or "no file"
        keys = [self.key] if self.key else sorted(k for k in files if k.endswith((".csv", ".yaml", ".yml")))
        if not keys or any(k not in files for k in keys):
            wanted = self.key or "file that ends in .csv or .yaml"
            raise FeedError(f"ConfigMap {self.config_map} has no {wanted}; it has {there}")
        readings = [
            await asyncio.to_thread(read_csv if k.endswith(".csv") else read_yaml, files[k], self.name, now)
            for k in keys
        ]
        whole = together(readings, self.name, now, confidence=Confidence.OVERRIDE, complete=True)
        return replace(whole, facts=tuple(replace(f, as_of=f.as_of or f.since) for f in whole.facts))
