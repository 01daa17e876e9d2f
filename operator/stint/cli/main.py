"""stint run | plan | explain | quote | prices | top | report | reconcile | simulate | replay. Also `kubectl stint ...`.

Exit codes: 0 fine; 1 no cluster, no such job; 2 the command line or a file is wrong; 3 a deadline or a budget does
not hold, a stored decision is not made again, or a bill is not what was booked; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from stint import __version__
from stint.api.sharing import fair_share_of, limits_of, quotas_of
from stint.cli import commands, reconcile, replay, report, simulate, top, whatif
from stint.controllers.daily_spend import KEEP_DAYS
from stint.controllers.planner_client import MOST_TIMEOUT_S, TIMEOUT_S
from stint.errors import InvalidInputError, StintError
from stint.feeds import bundled
from stint.feeds.promql import Access
from stint.model.situation import Settings
from stint.placement.solvers import SOLVERS


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    whole = argparse.ArgumentParser(prog=_program(), description="GPU jobs where finishing costs least.")
    whole.add_argument("--version", action="version", version=f"stint {__version__}")
    verbs = whole.add_subparsers(dest="verb", required=True, metavar="COMMAND")

    run = verbs.add_parser("run", help="be the operator")
    run.add_argument("--kubeconfig", type=Path, help="by default $KUBECONFIG, or the Pod's own account")
    run.add_argument("--namespace", default="stint-system", help="where the Lease lives (default: %(default)s)")
    run.add_argument("--identity", default="", help="who it is in the Lease (default: host name and process id)")
    run.add_argument("--metrics-port", type=int, default=8080, help="0: a free one (default: %(default)s)")
    run.add_argument("--health-port", type=int, default=8081, help="0: a free one (default: %(default)s)")
    run.add_argument("--prometheus-url", default="", help="where DCGM metrics are; without it utilisation is unknown")
    run.add_argument("--prometheus-window", default="5m", help="over which utilisation is averaged")
    run.add_argument("--prometheus-token-file", type=Path, help="a bearer token for it")
    run.add_argument("--prometheus-username", default="", help="for basic authentication, with the next one")
    run.add_argument("--prometheus-password-file", type=Path, help="a file with its password")
    run.add_argument("--prometheus-ca-file", type=Path, help="certificates (PEM) that it is trusted by")
    run.add_argument("--prometheus-insecure", action="store_true", help="trust any certificate of it")
    run.add_argument("--prometheus-tenant", default="", help="sent as X-Scope-OrgID, as Mimir, Thanos and Cortex want")
    run.add_argument(
        "--prometheus-pod-labels",
        type=_pod_labels,
        default=None,
        metavar="NAMESPACE,POD",
        help="labels of DCGM series that name a GPU's pod, as exported_namespace,exported_pod (default: found out)",
    )
    run.add_argument("--prometheus-timeout", type=float, default=5.0, metavar="SECONDS", help="for one query")
    run.add_argument(
        "--prometheus-max-bytes", type=int, default=32 * 2**20, help="of one answer (default: %(default)s)"
    )
    run.add_argument(
        "--calibration",
        choices=("Use", "Advise"),
        default="Use",
        help="whether decisions go by measured speeds where there are enough, or they are only shown",
    )
    run.add_argument("--record-dir", type=Path, help="store every decision there, for plan -f and explain -f")
    run.add_argument(
        "--feed-tokens",
        type=Path,
        default=Path("/feeds"),
        help="a folder with SECRET/KEY for the tokens that price sources name (default: %(default)s)",
    )
    run.add_argument("--steering", action="store_true", help="place other people's workloads, too, that ask for it")
    run.add_argument("--webhook-port", type=int, help="gate their pods by a webhook on this port; 0: a free one")
    run.add_argument("--webhook-certificates", type=Path, help="a folder with tls.crt and tls.key for it")
    run.add_argument(
        "--pod-groups", action="store_true", help="give each gang a PodGroup, where the cluster serves v1beta1 of them"
    )
    run.add_argument(
        "--no-disruption-protection",
        action="store_true",
        help="let Karpenter and cluster-autoscaler end gangs to consolidate nodes: do not annotate their pods",
    )
    run.add_argument("--solver", type=_solver, choices=sorted(SOLVERS), default=Settings().solver)
    run.add_argument(
        "--quotas", default="[]", help='JSON: [{"namespace": "ml", "usdPerHour": 100, "gpus": {"H100": 8}}]'
    )
    run.add_argument(
        "--limits",
        default="{}",
        help='JSON: {"default": {"priority": 100}, "namespaces": {"prod": {"priority": 1000}}}; see the chart',
    )
    run.add_argument("--fair-share", help='JSON: {"weights": {"ml": 2}, "patienceHours": 24}; without it, no turns')
    run.add_argument(
        "--moves-per-hour",
        type=int,
        default=Settings().moves_per_hour,
        help="running gangs that may be moved to save money, or a job's deadline (default: %(default)s)",
    )
    run.add_argument(
        "--evictions-across-namespaces-per-hour",
        type=int,
        default=Settings().evictions_across_namespaces_per_hour,
        help="of those, gangs that may make room for a job of another namespace (default: %(default)s)",
    )
    run.add_argument(
        "--payback",
        type=float,
        default=Settings().payback,
        help="what a move must save, over what it costs (default: %(default)s)",
    )
    run.add_argument(
        "--deadline-reserve",
        type=float,
        default=Settings().reserve_seconds,
        metavar="SECONDS",
        help="that nodes may come and gangs end later than foreseen without a deadline missed (default: %(default)s)",
    )
    run.add_argument(
        "--node-grace",
        type=float,
        default=Settings().node_grace_seconds,
        metavar="SECONDS",
        help="that a node may be not ready before a gang that runs there is requeued (default: %(default)s)",
    )
    run.add_argument(
        "--max-unused-usd-per-hour",
        type=float,
        default=None,
        metavar="USD",
        help="no node is ordered beyond this price of bought nodes that are empty or on order (default: no limit)",
    )
    run.add_argument(
        "--keep-spend-days",
        type=int,
        default=KEEP_DAYS,
        metavar="DAYS",
        help="DailySpends that are older are deleted (default: %(default)s)",
    )
    run.add_argument(
        "--plan-timeout",
        type=_plan_timeout,
        default=TIMEOUT_S,
        metavar="SECONDS",
        help=f"for one answer of a solver, 1 to {MOST_TIMEOUT_S:g}; then greedy decides (default: %(default)s)",
    )
    run.add_argument(
        "--pace", type=float, default=1.0, help="for demos: seconds that pass on the deciding clock in a second"
    )
    run.add_argument("--log-format", choices=("text", "json"), default="text")

    plan = verbs.add_parser("plan", help="what would be decided now, in money; changes nothing")
    _source(plan)
    plan.add_argument("--solver", choices=sorted(SOLVERS), help="instead of the one that is configured")
    whatif.add_options(plan)

    explain = verbs.add_parser("explain", help="why one job is where it is, or is not")
    explain.add_argument("job", help="NAME or NAMESPACE/NAME")
    _source(explain)

    quote = verbs.add_parser("quote", help="what a job would cost and when it would be done, before it is submitted")
    quote.add_argument("-f", "--file", dest="job", type=Path, required=True, help="TrainingJobs; - for standard input")
    quote.add_argument("--situation", dest="file", type=Path, help="a stored situation instead of a cluster")
    _common(quote)

    top.add_parser(verbs)
    report.add_parser(verbs)
    reconcile.add_parser(verbs)
    simulate.add_parser(verbs)
    replay.add_parser(verbs)

    prices = verbs.add_parser(
        "prices", help="every price that decisions use, with source, date and what is wrong with it"
    )
    prices.add_argument("-f", "--file", type=Path, help="a stored situation instead of a cluster; - for standard input")
    prices.add_argument("--kubeconfig", type=Path, help="by default $KUBECONFIG, or the usual file")
    prices.add_argument("--catalogue", action="store_true", help="the tables that come with Stint, without any cluster")
    prices.add_argument("--provider", help="only this one")
    prices.add_argument("--gpu", help="only this model")
    prices.add_argument("--region", help="only this one")
    prices.add_argument("--gpus", action="store_true", help="list the GPU models of the catalogue instead")
    prices.add_argument("-o", "--output", choices=("table", "json", "csv"), default="table")
    return whole


def _solver(name: str) -> str:
    """The Deployment of an earlier chart may still name `auto`: its operator starts, and says what it does."""
    if name == "auto":
        print("stint run: the solver auto is gone; portfolio takes its place", file=sys.stderr)
        return "portfolio"
    return name


def _plan_timeout(text: str) -> float:
    """Steps, not seconds, are what a solver's answer follows from: this only ends one that hangs."""
    if not 1 <= float(text) <= MOST_TIMEOUT_S:
        raise ValueError
    return float(text)


def _pod_labels(text: str) -> tuple[str, str] | None:
    """Empty: to be found out."""
    namespace, _, pod = text.partition(",")
    if bool(namespace) != bool(pod):
        raise ValueError
    return (namespace, pod) if text else None


def _source(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-f", "--file", type=Path, help="a stored situation instead of a cluster; - for standard input")
    _common(verb)


def _common(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--kubeconfig", type=Path, help="by default $KUBECONFIG, or the usual file")
    verb.add_argument("-n", "--namespace", default="default", help="for a job named without one")
    verb.add_argument("-o", "--output", choices=("table", "json"), default="table")


def _program() -> str:
    return "kubectl stint" if Path(sys.argv[0]).name.startswith("kubectl-") else "stint"


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        if options.verb == "run":
            return _run(options)
        return commands.VERBS[options.verb](options)
    except InvalidInputError as error:
        print(error, file=sys.stderr)
        return 2
    except StintError as error:
        print(f"stint: {error}", file=sys.stderr)
        return 1
    except aiohttp.ClientConnectionError as error:
        print(f"stint: the API server does not answer: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0


def _prometheus(options: argparse.Namespace) -> Access:
    if bool(options.prometheus_username) != (options.prometheus_password_file is not None):
        raise StintError("--prometheus-username and --prometheus-password-file go together")
    if options.prometheus_username and options.prometheus_token_file:
        raise StintError("Prometheus is told one thing: --prometheus-token-file or --prometheus-username, not both")
    if options.prometheus_ca_file and options.prometheus_insecure:
        raise StintError("--prometheus-insecure trusts any certificate: drop it, or --prometheus-ca-file")
    return Access(
        url=options.prometheus_url,
        token_file=options.prometheus_token_file,
        username=options.prometheus_username,
        password_file=options.prometheus_password_file,
        ca_file=options.prometheus_ca_file,
        insecure=options.prometheus_insecure,
        tenant=options.prometheus_tenant,
        timeout_s=options.prometheus_timeout,
        most_bytes=options.prometheus_max_bytes,
    )


def _run(options: argparse.Namespace) -> int:
    # The operator's numerics are small; more threads only get in each other's way.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from stint.controllers.logs import configure
    from stint.controllers.wiring import Options, run

    if (options.webhook_port is None) != (options.webhook_certificates is None):
        raise StintError("--webhook-port and --webhook-certificates go together: the API server speaks TLS only")
    if options.moves_per_hour < 0:
        raise StintError(f"--moves-per-hour must be 0 or more, not {options.moves_per_hour}")
    if options.evictions_across_namespaces_per_hour < 0:
        given = options.evictions_across_namespaces_per_hour
        raise StintError(f"--evictions-across-namespaces-per-hour must be 0 or more, not {given}")
    if not options.payback >= 1:
        raise StintError(f"--payback must be 1 or more, not {options.payback}: a move would not pay for itself")
    if not 0 <= options.deadline_reserve <= 86_400:
        raise StintError(f"--deadline-reserve must be from 0 to 86400 seconds, not {options.deadline_reserve:g}")
    if not 0 <= options.node_grace <= 86_400:
        raise StintError(f"--node-grace must be from 0 to 86400 seconds, not {options.node_grace:g}")
    if (most := options.max_unused_usd_per_hour) is not None and not 0 <= most <= 1_000_000:
        raise StintError(f"--max-unused-usd-per-hour must be from 0 to 1000000 USD/h, not {most:g}")
    if not 2 <= options.keep_spend_days <= 3650:
        raise StintError(f"--keep-spend-days must be from 2 to 3650, not {options.keep_spend_days}")
    configure(options.log_format)
    chosen = Options(
        kubeconfig=options.kubeconfig,
        namespace=options.namespace,
        **({"identity": options.identity} if options.identity else {}),
        metrics_port=options.metrics_port,
        health_port=options.health_port,
        prometheus=_prometheus(options) if options.prometheus_url else None,
        prometheus_window=options.prometheus_window,
        prometheus_pod_labels=options.prometheus_pod_labels,
        use_calibration=options.calibration == "Use",
        record_dir=options.record_dir,
        feed_tokens=options.feed_tokens,
        pod_groups=options.pod_groups,
        disruption_protection=not options.no_disruption_protection,
        pace=options.pace,
        steering=options.steering,
        webhook_port=options.webhook_port,
        webhook_certificates=options.webhook_certificates,
        plan_timeout_s=options.plan_timeout,
        keep_days=options.keep_spend_days,
        settings=Settings(
            solver=options.solver,
            moves_per_hour=options.moves_per_hour,
            evictions_across_namespaces_per_hour=options.evictions_across_namespaces_per_hour,
            payback=options.payback,
            reserve_seconds=options.deadline_reserve,
            node_grace_seconds=options.node_grace,
            max_unused_usd_per_hour=options.max_unused_usd_per_hour,
            quotas=quotas_of(options.quotas, bundled.load()),
            fair_share=fair_share_of(options.fair_share) if options.fair_share else None,
        ),
        limits=limits_of(options.limits),
    )
    asyncio.run(run(chosen))
    return 0


if __name__ == "__main__":
    sys.exit(main())
