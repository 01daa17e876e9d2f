"""One Prometheus server, or what speaks its language (Thanos, Mimir, VictoriaMetrics): instant queries, no more.

By POST, so that no proxy cuts a long query off; at a time that is floored to a step, so that a cache in front can
answer replicas alike; with a limit on the server's side that is shorter than ours, so that it gives up first; and no
more is read of an answer than was agreed on.
"""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import msgspec

from stint.errors import StintError

_CLOCKS_DIFFER_S = 15.0
_SERVER_SHARE = 0.8  # of our own patience


class PrometheusUnavailableError(StintError):
    """No answer, or none that can be used. Decisions go on without."""


class Sample(msgspec.Struct):
    """One series of an instant vector."""

    metric: dict[str, str]
    value: tuple[float, str]

    @property
    def number(self) -> float:
        """May be NaN or infinite.

        Raises:
            ValueError: it is no number.
        """
        return float(self.value[1])


class _Data(msgspec.Struct):
    result: list[Sample] = []


class _Answer(msgspec.Struct):
    status: str
    data: _Data = msgspec.field(default_factory=_Data)
    error: str = ""
    warnings: list[str] = []


_ANSWERS = msgspec.json.Decoder(_Answer)
Ask = Callable[[str], Awaitable[list[Sample]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Where it is and how it knows us. Files are read for each round: secrets are renewed."""

    url: str
    token_file: Path | None = None  # a bearer token
    username: str = ""  # basic authentication, with `password_file`
    password_file: Path | None = None
    ca_file: Path | None = None  # PEM; None: the system's
    insecure: bool = False  # any certificate will do
    tenant: str = ""  # X-Scope-OrgID
    timeout_s: float = 5.0  # of one query
    step_s: float = 5.0  # to which the time of a query is floored
    most_bytes: int = 32 * 2**20  # of one answer, unpacked

    def headers(self) -> dict[str, str]:
        """Of every request.

        Raises:
            OSError: a file cannot be read.
        """
        found = {}
        if self.token_file is not None:
            found["Authorization"] = f"Bearer {self.token_file.read_text().strip()}"
        elif self.username:
            password = self.password_file.read_text().strip() if self.password_file is not None else ""
            pair = base64.b64encode(f"{self.username}:{password}".encode()).decode()
            found["Authorization"] = f"Basic {pair}"
        if self.tenant:
            found["X-Scope-OrgID"] = self.tenant
        return found

    def tls(self) -> ssl.SSLContext | bool:
        """True: as usual.

        Raises:
            OSError: the CA cannot be read (ssl.SSLError is one, too).
        """
        if not self.url.startswith("https:") or (self.ca_file is None and not self.insecure):
            return True
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.insecure:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class Server:
    """One server, and what asking it has cost."""

    def __init__(self, access: Access, *, wall_clock: Callable[[], float] = time.time) -> None:
        self.access = access
        self.queries = 0
        self.bytes = 0  # of answers, unpacked
        self.warnings: tuple[str, ...] = ()  # of the last round, each once
        self._wall_clock = wall_clock
        self._ahead_s = 0.0  # of its clock before ours, where they differ by much

    @asynccontextmanager
    async def round(self) -> AsyncIterator[Ask]:
        """Queries that are meant for the same moment.

        Raises:
            PrometheusUnavailableError: saying why; `ask` does so, too.
        """
        access = self.access
        heard: dict[str, None] = {}
        at = (self._wall_clock() + self._ahead_s) // access.step_s * access.step_s
        try:
            connector = aiohttp.TCPConnector(ssl=access.tls())
            headers = access.headers()
        except (OSError, ValueError) as error:
            raise self._unavailable(error) from error
        timeout = aiohttp.ClientTimeout(total=access.timeout_s)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers) as session:

            async def ask(query: str) -> list[Sample]:
                try:
                    answer = await self._ask(session, query, at)
                except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # msgspec's are ValueErrors
                    raise self._unavailable(error) from error
                heard.update(dict.fromkeys(answer.warnings))
                return answer.data.result

            yield ask
        self.warnings = tuple(heard)

    def _unavailable(self, error: Exception) -> PrometheusUnavailableError:
        return PrometheusUnavailableError(f"{self.access.url}: {str(error) or type(error).__name__}")

    async def _ask(self, session: aiohttp.ClientSession, query: str, at: float) -> _Answer:
        access = self.access
        url = f"{access.url.rstrip('/')}/api/v1/query"
        form = {"query": query, "time": f"{at:.3f}", "timeout": f"{access.timeout_s * _SERVER_SHARE:g}s"}
        self.queries += 1
        payload = bytearray()
        async with session.post(url, data=form) as response:
            async for chunk in response.content.iter_any():
                payload += chunk
                if len(payload) > access.most_bytes:
                    raise PrometheusUnavailableError(
                        f"{url}: the answer has more than {access.most_bytes} bytes; let Prometheus drop labels or "
                        "series that nobody needs, or raise the limit (prometheus.maxResponseBytes)"
                    )
        self.bytes += len(payload)
        self._compare_clocks(response.headers.get("Date", ""))
        if response.status != 200:
            raise PrometheusUnavailableError(f"{url}: {response.status} {payload[:200].decode(errors='replace')}")
        answer = _ANSWERS.decode(payload)
        if answer.status != "success":
            raise PrometheusUnavailableError(f"{url}: {answer.error}")
        for sample in answer.data.result:
            float(sample.value[1])  # said here, where it can be told of which server
        return answer

    def _compare_clocks(self, date: str) -> None:
        """A clock of ours that is wrong would ask for what was long ago, or is not yet."""
        try:
            ahead = parsedate_to_datetime(date).timestamp() - self._wall_clock()
        except (TypeError, ValueError):
            return
        self._ahead_s = ahead if abs(ahead) > _CLOCKS_DIFFER_S else 0.0
