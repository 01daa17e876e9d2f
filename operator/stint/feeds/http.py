"""Our own contract over HTTP: any cloud's price API can be bridged to it, as `hack/bridges` does for three of them.

GET the URL, and there is JSON of this shape (see `stint.feeds.rows` for every field), or CSV as `text/csv`:

    {"currency": "USD", "asOf": "2026-11-26T12:00:00Z", "rows": [
      {"provider": "aws", "region": "us-east-1", "instanceType": "p5.48xlarge", "value": 55.04},
      {"provider": "aws", "region": "us-east-1", "zone": "use1-az4", "instanceType": "p5.48xlarge",
       "capacityType": "spot", "value": 21.70, "from": "2026-11-26T10:03:12Z"},
      {"what": "tariff", "region": "berlin", "value": 0.21, "currency": "EUR"},
      {"what": "carbon", "signal": "marginal", "provider": "aws", "region": "us-east-1", "value": 412}]}

Rows of one thing with `from` are a series, such as a spot price history: each holds until the next one. Without `asOf`
what is answered is taken to be true now.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime

from stint.feeds.feed import Reading
from stint.feeds.fetch import Where, get
from stint.feeds.rows import read_csv, read_json


@dataclass(frozen=True, slots=True)
class HttpFeed:
    """One URL."""

    name: str
    where: Where

    async def read(self, now: datetime) -> Reading:
        """See `Feed`."""
        payload, kind = await get(self.where)
        if kind == "text/csv":
            reading = await asyncio.to_thread(read_csv, payload.decode(errors="replace"), self.name, now)
        else:
            reading = await asyncio.to_thread(read_json, payload, self.name, now)
        return replace(reading, as_of=now)
