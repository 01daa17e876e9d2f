"""Utilisation and power from Prometheus, as dcgm-exporter writes them.

Three aggregated queries for the whole cluster, never one a pod. The exporter names a GPU's pod `pod`; Prometheus
renames that to `exported_pod` unless told to honour labels, and then `pod` is the exporter's own. So the spelling is
detected and never mixed: with `A or B` the idle GPUs would be billed to the exporter.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec

from stint.errors import StintError
from stint.model.cluster import Utilisation
from stint.model.job import JobId

IDLE_BELOW = 0.05
_SPELLINGS = (("exported_namespace", "exported_pod"), ("namespace", "pod"))

Pod = tuple[str, str]  # namespace, name


class PrometheusUnavailableError(StintError):
    """No answer, or none that can be used. Decisions go on without."""


class _Sample(msgspec.Struct):
    metric: dict[str, str]
    value: tuple[float, str]


class _Data(msgspec.Struct):
    result: list[_Sample] = []


class _Answer(msgspec.Struct):
    status: str
    data: _Data = msgspec.field(default_factory=_Data)
    error: str = ""


@dataclass(slots=True)
class Prometheus:
    """One server."""

    url: str
    window: str = "5m"
    token_file: Path | None = None
    timeout_s: float = 5.0
    _labels: tuple[str, str] | None = None

    async def usage(self, pods: Mapping[Pod, JobId]) -> tuple[Utilisation, ...]:
        """What the GPUs of these pods did lately, by job. What is not known is None.

        Raises:
            PrometheusUnavailableError: saying why.
        """
        timeout = aiohttp.ClientTimeout(total=self.timeout_s)
        try:
            async with aiohttp.ClientSession(timeout=timeout) as session:
                spelling = await self._spelling(session, pods)
                if spelling is None:
                    return _by_job(pods, {}, {}, {})  # no series names any of our pods yet
                namespace, pod = spelling
                by, w = f"{namespace},{pod}", self.window
                mine = f'{{{pod}!=""}}'
                util = f"avg_over_time(DCGM_FI_DEV_GPU_UTIL{mine}[{w}])"
                mean = await self._query(session, f"avg by ({by}) ({util}) / 100")
                watts = await self._query(session, f"sum by ({by}) (avg_over_time(DCGM_FI_DEV_POWER_USAGE{mine}[{w}]))")
                idle = await self._query(session, f"sum by ({by}) ({util} / 100 < bool {IDLE_BELOW})")
                return _by_job(pods, *(_by_pod(answer, spelling) for answer in (mean, watts, idle)))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:  # msgspec's errors are ValueErrors
            raise PrometheusUnavailableError(f"{self.url}: {str(error) or type(error).__name__}") from error

    async def _spelling(self, session: aiohttp.ClientSession, pods: Mapping[Pod, JobId]) -> tuple[str, str] | None:
        """Which labels name a GPU's pod: those under which our own pods are found. None: none are yet."""
        for namespace, pod in _SPELLINGS if self._labels is None else ():
            query = f'count by ({namespace},{pod}) (DCGM_FI_DEV_GPU_UTIL{{{pod}!=""}})'
            found = (await self._query(session, query)).result
            if any((s.metric.get(namespace, ""), s.metric.get(pod, "")) in pods for s in found):
                self._labels = (namespace, pod)
                break
        return self._labels

    async def _query(self, session: aiohttp.ClientSession, query: str) -> _Data:
        headers = {}
        if self.token_file is not None:
            headers["Authorization"] = f"Bearer {self.token_file.read_text().strip()}"
        url = f"{self.url.rstrip('/')}/api/v1/query"
        async with session.post(url, data={"query": query}, headers=headers) as response:
            payload = await response.read()
        if response.status != 200:
            raise PrometheusUnavailableError(f"{url}: {response.status} {payload[:200].decode(errors='replace')}")
        answer = msgspec.json.decode(payload, type=_Answer)
        if answer.status != "success":
            raise PrometheusUnavailableError(f"{url}: {answer.error}")
        return answer.data


def _by_pod(data: _Data, spelling: tuple[str, str]) -> dict[Pod, float]:
    """NaN and infinity are no measurements."""
    namespace, pod = spelling
    numbers = {(s.metric.get(namespace, ""), s.metric.get(pod, "")): float(s.value[1]) for s in data.result}
    return {owner: number for owner, number in numbers.items() if math.isfinite(number)}


def _by_job(
    pods: Mapping[Pod, JobId], mean: dict[Pod, float], watts: dict[Pod, float], idle: dict[Pod, float]
) -> tuple[Utilisation, ...]:
    jobs: dict[JobId, list[Pod]] = defaultdict(list)
    for pod, job in pods.items():
        jobs[job].append(pod)
    found = []
    for job, own in sorted(jobs.items()):
        ratios = [mean[p] for p in own if p in mean]
        powers = [watts[p] for p in own if p in watts]
        idles = [idle[p] for p in own if p in idle]
        found.append(
            Utilisation(
                job=job,
                gpu_ratio=sum(ratios) / len(ratios) if ratios else None,
                watts=sum(powers) if len(powers) == len(own) else None,  # part of a sum would pass for the whole
                idle_gpus=round(sum(idles)) if len(idles) == len(own) else None,
            )
        )
    return tuple(found)
