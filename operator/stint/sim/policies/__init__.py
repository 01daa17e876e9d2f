"""Policies by name: ours, and simple ones to compete with, each a small file that names its source."""

from __future__ import annotations

from collections.abc import Mapping

from stint.sim.policy import Decides, Policy

_ALL: tuple[Policy, ...] = (Decides("stint"),)
POLICIES: Mapping[str, Policy] = {p.name: p for p in _ALL}
