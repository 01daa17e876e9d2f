"""The scenario packs of `hack/scenarios`, as TrainingJobs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "scenarios"


def packs() -> list[dict[str, Any]]:
    """All of them."""
    return [yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))]


def manifests(pack: dict[str, Any]) -> list[dict[str, Any]]:
    """A namespace and its jobs."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": pack["name"]}}
    return [namespace, *(_job(pack, job) for job in pack["jobs"])]


def main() -> None:
    """Write every pack's jobs beside its simulation."""
    for pack in packs():
        path = FOLDER.parent / "simulate" / f"{pack['name']}-jobs.yaml"
        path.write_text(written(pack))


def written(pack: dict[str, Any]) -> str:
    """A pack's jobs as a file."""
    return yaml.safe_dump_all(manifests(pack)[1:], sort_keys=False)


def _job(pack: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    gpus = job["gpus"] * job["workers"]
    speeds = {model: round(speed * gpus, 1) for model, speed in pack["speedPerGpu"].items()}
    spec: dict[str, Any] = {
        "workers": job["workers"],
        "gpu": {"perWorker": job["gpus"], "models": pack["models"]},
        "work": {
            "units": round(speeds["A100-80GB"] * job["hoursOnA100"] * 3600),
            "unit": pack["unit"],
            "unitsPerSecond": speeds,
        },
        "checkpoint": pack["checkpoint"],
        "within": job["within"],
        "budget": {"usd": job["budget"]},
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "train",
                        "image": f"registry.example.com/{pack['name']}:1",
                        "resources": {"requests": {"cpu": str(4 * job["gpus"]), "memory": f"{32 * job['gpus']}Gi"}},
                    }
                ]
            }
        },
    }
    if "data" in pack:
        spec["data"] = pack["data"]
    return {
        "apiVersion": "stint.dev/v1alpha1",
        "kind": "TrainingJob",
        "metadata": {"name": job["name"], "namespace": pack["name"]},
        "spec": spec,
    }


if __name__ == "__main__":
    main()
