"""`python -m hack.bridges KIND FILE...`"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from hack.bridges import aws, azure, gcp

KINDS: dict[str, Callable[[Any], Iterator[aws.Row]]] = {
    "aws": aws.on_demand,
    "aws-spot": aws.spot,
    "azure": azure.retail,
    "gcp": gcp.skus,
}


def bridged(kind: str, files: Iterable[Path]) -> bytes:
    """The contract. Each file is one answer of the API; several are its pages."""
    rows = [row for file in files for row in KINDS[kind](json.loads(file.read_text()))]
    return json.dumps({"rows": rows}, indent=1).encode()


def server(kind: str, files: Sequence[Path], port: int) -> ThreadingHTTPServer:
    """Answers every GET; 503 while a file cannot be read."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                status, body = 200, bridged(kind, files)
            except (OSError, ValueError, KeyError) as error:
                status, body = 503, str(error).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json" if status == 200 else "text/plain")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    return ThreadingHTTPServer(("", port), Handler)


def main() -> None:
    """Print the rows, or serve them."""
    parser = argparse.ArgumentParser(prog="python -m hack.bridges", description="From a cloud's price API to rows.")
    parser.add_argument("--serve", type=int, metavar="PORT", help="over HTTP, instead of once")
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("files", nargs="+", type=Path, help="what the API answered, page by page")
    options = parser.parse_args()
    if options.serve is None:
        print(bridged(options.kind, options.files).decode())
    else:
        server(options.kind, options.files, options.serve).serve_forever()


if __name__ == "__main__":
    main()
