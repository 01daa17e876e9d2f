"""`python -m hack.kind image | test`: the node's image alone, and the e2e suite on kind wherever kind can be."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from hack import build
from hack.build import cache_folder
from hack.kind import docker as dockers
from hack.kind.offline import checks, daemon, node
from hack.processes import HopelessError, NotYetError


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hack.kind", description=__doc__)
    parser.add_argument("verb", choices=("image", "test"))
    verb = parser.parse_args().verb
    try:
        return {"image": image, "test": test}[verb]()
    except (HopelessError, NotYetError) as error:
        print(f"hack.kind: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def image() -> int:
    """Build the node's image, and say how to take it to a machine that can build nothing."""
    version = os.environ.get("K8S") or build.versions()["default_kubernetes"]
    docker = dockers.own()
    if docker is not None:
        return _built(node.image(docker, version))
    checks.insist(cache_folder(), building=True)
    ran = daemon.running() is not None
    try:
        return _built(node.image(daemon.start(), version))
    finally:
        if not ran:
            daemon.stop()


def _built(name: str) -> int:
    print(f"{name}\nCLUSTER=kind make up uses it. All of it is in {cache_folder()}, which can be copied elsewhere.")
    return 0


def test() -> int:
    """The e2e suite on kind; where kind cannot be, say why and leave it out."""
    if dockers.own() is None:
        missing = checks.problems(checks.look(cache_folder()), building=True)
        if missing:
            print("\nLEFT OUT: the end-to-end tests on kind, with a real kubelet and the real image. What is missing:")
            print("\n".join(f"  - {problem}" for problem in missing))
            return 0
    print("\nThe end-to-end tests once more on kind: a real kubelet, the real image", flush=True)
    command = [sys.executable, "-m", "pytest", "-q", "tests/e2e"]
    return subprocess.run(command, env={**os.environ, "CLUSTER": "kind"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
