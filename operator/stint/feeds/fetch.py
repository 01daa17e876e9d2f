"""One GET over HTTP, with a limit to its time and its size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from stint import __version__
from stint.feeds.feed import FeedError

MOST_BYTES = 16 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What to ask, and how we are known there."""

    url: str
    token_file: Path | None = None  # read afresh each time: Secrets are renewed
    timeout_s: float = 10.0

    def token(self) -> str:
        """Empty: there is none.

        Raises:
            FeedError: its file cannot be read.
        """
        if self.token_file is None:
            return ""
        try:
            return self.token_file.read_text().strip()
        except OSError as error:
            text = "list its Secret in the chart's feeds.tokenSecrets"
            raise FeedError(f"the token {self.token_file.name}: {error.strerror}; {text}") from error


async def get(
    where: Where,
    path: str = "",
    *,
    params: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    bearer: bool = True,
) -> tuple[bytes, str]:
    """The answer and its content type.

    Args:
        bearer: send the token as usual.
    Raises:
        FeedError: there is none in time, it is no success, or it is far too large.
    """
    url = where.url.rstrip("/") + path if path else where.url
    known = {"User-Agent": f"stint/{__version__}", **(headers or {})}
    if bearer and (token := where.token()):
        known["Authorization"] = f"Bearer {token}"
    timeout = aiohttp.ClientTimeout(total=where.timeout_s)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, params=params, headers=known) as response,
        ):
            payload = await response.content.read(MOST_BYTES + 1)
            while len(payload) <= MOST_BYTES and (more := await response.content.read(MOST_BYTES)):
                payload += more
            if response.status != 200:
                raise FeedError(f"{url}: {response.status} {payload[:200].decode(errors='replace')}".strip())
            if len(payload) > MOST_BYTES:
                raise FeedError(f"{url}: more than {MOST_BYTES // 2**20} MiB")
            return payload, response.content_type
    except TimeoutError as error:
        raise FeedError(f"{url}: no answer within {where.timeout_s:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise FeedError(f"{url}: {str(error) or type(error).__name__}") from error
