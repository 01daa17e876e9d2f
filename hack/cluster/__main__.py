"""`python -m hack.cluster up | down | status | env`: what `make up` and its companions do."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from hack import build, fleet
from hack.build import step
from hack.cluster import Cluster, Provider, claims, find_kubectl, provider
from hack.cluster.kind import Kind
from hack.cluster.provider import chosen_name
from hack.processes import HopelessError, NotYetError


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hack.cluster", description=__doc__)
    parser.add_argument("verb", choices=("up", "down", "status", "env", "build"))
    default = os.environ.get("STINT_STATE") or build.cache_folder() / "cluster"
    parser.add_argument("--state", type=Path, default=Path(default), help="or $STINT_STATE (default: %(default)s)")
    options = parser.parse_args()
    try:
        return {"up": up, "down": down, "status": status, "env": env, "build": make}[options.verb](options.state)
    except (HopelessError, NotYetError, RuntimeError) as error:
        print(f"hack.cluster: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _remembered(state: Path) -> Provider:
    note = state / "provider.json"
    known = json.loads(note.read_text()) if note.exists() else {}
    return provider(state, name=known.get("name"), k8s=known.get("k8s"))


def make(_: Path) -> int:
    """Build everything, start nothing."""
    build.control_plane(os.environ.get("K8S") or build.versions()["default_kubernetes"])
    for tool in (build.kwok, build.kwok_stages, build.helm, build.prometheus):
        tool()
    return 0


def up(state: Path) -> int:
    """Cluster, chart, operator, monitoring, sample fleet; then return."""
    claims.clear_orphans()
    source = provider(state)
    build.prometheus()
    with build.locked("up", state):
        complete = state / "complete"
        noted = source.processes.noted()
        if complete.exists() and noted and all(p.alive for p in noted):
            print(f"{exports(source)}\n\nit runs already; make down stops it")
            return 0
        complete.unlink(missing_ok=True)
        _up(state, source)
        complete.touch()
    return 0


def _up(state: Path, source: Provider) -> None:
    try:
        with step("starting the cluster"):
            source.start()
            note = {"name": chosen_name(), "k8s": os.environ.get("K8S")}
            (state / "provider.json").write_text(json.dumps(note))
        cluster = Cluster(source, state)
        with step("starting Prometheus"):
            url = cluster.start_monitoring()
        with step("installing the chart and starting the operator"):
            cluster.start_stint("steering.enabled=true", prometheus_url=url, record_dir=state / "decisions")
        if source.owns_nodes:
            with step("adding a sample fleet of fake GPU nodes"):
                cluster.apply(fleet.sample())
    except BaseException:
        source.stop()
        raise
    in_pods = isinstance(source, Kind)
    logs = "kubectl logs -n stint-system deployment/stint" if in_pods else str(state / "logs")
    print(f"""
{exports(source)}

kubectl get gp,nodes                       # the fleet
kubectl apply -f hack/samples/first.yaml   # a job
kubectl get tj -w                          # where it runs and what it costs
stint explain ct-scan-unet                 # why
make down                                  # stop all of it

logs: {logs}
Prometheus: {url}""")


def exports(source: Provider) -> str:
    """What a shell needs to speak to the cluster with kubectl, helm and stint."""
    folders = [Path(sys.executable).parent, find_kubectl(source).parent, build.helm().parent]
    return f"export KUBECONFIG={source.kubeconfig}\nexport PATH={':'.join(map(str, folders))}:$PATH"


def env(state: Path) -> int:
    """For `eval "$(make -s env)"`."""
    print(exports(_remembered(state)))
    return 0


def down(state: Path) -> int:
    """Stop all of it, and what clusters of killed processes left."""
    claims.clear_orphans()
    _remembered(state).stop()
    print("stopped")
    return 0


def status(state: Path) -> int:
    """What runs."""
    source = _remembered(state)
    alive = [p for p in source.processes.noted() if p.alive]
    for process in alive:
        print(f"{process.name:26} pid {process.pid:7} log {process.log}")
    print(f"export KUBECONFIG={source.kubeconfig}" if alive else "nothing runs; make up")
    return 0


if __name__ == "__main__":
    sys.exit(main())
