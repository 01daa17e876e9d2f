"""Where a job's PersistentVolumeClaims let its pods go, from the claims, their volumes and their StorageClasses.

Not looked at: how many volumes a node may attach, and whether another node has a ReadWriteOnce volume at the moment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

from stint.api.parse.template import Claim
from stint.kube.records import StorageClassRecord, VolumeClaimRecord, VolumeRecord


def claims_of(
    claims: Iterable[VolumeClaimRecord], volumes: Iterable[VolumeRecord], classes: Iterable[StorageClassRecord]
) -> dict[str, dict[str, Claim]]:
    """By namespace and name."""
    by_name = {v.name: v for v in volumes}
    storage = {c.name: c for c in classes}
    default = next((c for c in sorted(storage.values(), key=lambda c: c.name) if c.default), None)
    found: dict[str, dict[str, Claim]] = defaultdict(dict)
    for claim in claims:
        found[claim.namespace][claim.name] = _claim(claim, by_name, storage, default)
    return found


def _claim(
    claim: VolumeClaimRecord,
    volumes: Mapping[str, VolumeRecord],
    storage: Mapping[str, StorageClassRecord],
    default: StorageClassRecord | None,
) -> Claim:
    if claim.lost:
        return Claim(lacking=f"PersistentVolumeClaim {claim.name} has lost its volume {claim.volume}")
    if claim.volume:
        volume = volumes.get(claim.volume)
        return Claim(where=volume.where if volume else None, of_one_pod=claim.of_one_pod)
    made_by = default if claim.storage_class is None else storage.get(claim.storage_class)
    if made_by is not None and made_by.waits:
        return Claim(where=made_by.where, of_one_pod=claim.of_one_pod)
    return Claim(lacking=f"PersistentVolumeClaim {claim.name} is not bound to a volume yet; its pods wait for that")
