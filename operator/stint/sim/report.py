"""One page that needs nothing else: a table, plots, and the decisions, to be searched."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

from stint.sim import plots
from stint.sim.books import COMPONENTS, NODES
from stint.sim.outcome import Outcome

_COLOURS = {  # by day, by night
    "useful": ("#2a8f5b", "#4cc38a"),
    "idle": ("#b9bdc5", "#6b7280"),
    "held": ("#d9a514", "#f0c24b"),
    "rework": ("#cf4a3c", "#f2786c"),
    "startup": ("#3b78c9", "#6ea8fe"),
    "egress": ("#8a5cc2", "#b794f4"),
    "energy": ("#c2577f", "#f08fb4"),
    "storage": ("#6b7f2a", "#a9c04a"),
    "licence": ("#14808a", "#4fd1d9"),
    "labour": ("#8c6239", "#c99a6b"),
}
_LINES = tuple(_COLOURS[n] for n in ("useful", "rework", "startup", "held", "egress", "energy", "licence", "labour"))
_TOLD = 400


def page(name: str, outcomes: Sequence[Outcome]) -> str:
    """HTML. Nothing in it is fetched from anywhere."""
    title = f"Stint simulation: {html.escape(name)}"
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
        f"<style>{_css()}</style></head><body><h1>{title}</h1>"
        f"{_table(outcomes)}{_together(outcomes)}{''.join(_alone(o) for o in outcomes)}{_log(outcomes)}"
        f"</body></html>\n"
    )


def _who(outcome: Outcome) -> str:
    return f"{outcome.policy}, seed {outcome.seed}" + (" (stopped)" if outcome.interrupted else "")


def _table(outcomes: Sequence[Outcome]) -> str:
    apart = [n for n in COMPONENTS if n not in NODES and any(o.usd[n] > 0 for o in outcomes)]
    heads = ["policy", "total $", *(f"{n} $" for n in (*NODES, *apart)), "GPUs used", "wait p50 h", "p99 h"]
    heads += ["mean JCT h", "misses", "ended", "interrupted", "requeues", "decisions"]
    rows = []
    least = min((o.total_usd for o in outcomes if not o.unfinished), default=None)
    for o in outcomes:
        used = o.taken_gpu_hours / o.paid_gpu_hours if o.paid_gpu_hours else 0.0
        cells = [f"{x:,.2f}" for x in (o.total_usd, *(o.usd[n] for n in (*NODES, *apart)))]
        cells += [f"{used:.0%}", f"{o.p50_wait_h:.2f}", f"{o.p99_wait_h:.2f}", f"{o.mean_jct_h:.2f}", str(o.misses)]
        cells += [f"{o.finished} of {o.jobs}", str(o.interruptions), str(o.requeues), str(o.decisions)]
        best = ' class="best"' if o.total_usd == least else ""
        rows.append(f"<tr{best}><th>{html.escape(_who(o))}</th>{''.join(f'<td>{c}</td>' for c in cells)}</tr>")
    head = "".join(f"<th>{h}</th>" for h in heads)
    body = f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide"><table class="sums">{body}</table></div>'


def _together(outcomes: Sequence[Outcome]) -> str:
    spent, missed, waiting = {}, {}, {}
    for o in outcomes:
        hourly = [sum(v[h] for v in o.hourly_usd.values() if h < len(v)) for h in range(_hours(o))]
        total, points = 0.0, [(0.0, 0.0)]
        for hour, usd in enumerate(hourly):
            total += usd
            points.append((min(hour + 1.0, o.hours), total))
        spent[_who(o)] = points
        waiting[_who(o)] = [(s.hour, float(s.waiting)) for s in o.samples]
        missed[_who(o)] = [(0.0, 0.0), *((h, i + 1.0) for i, h in enumerate(o.miss_hours)), (o.hours, float(o.misses))]
    return (
        '<section><h2>All policies</h2><div class="plots">'
        + plots.lines("Dollars until then", spent, unit="USD")
        + plots.lines("Jobs that wait", waiting, unit="jobs", steps=True)
        + plots.lines("Deadlines missed until then", missed, unit="jobs", steps=True)
        + "</div></section>"
    )


def _hours(outcome: Outcome) -> int:
    return max((len(v) for v in outcome.hourly_usd.values()), default=0)


def _alone(o: Outcome) -> str:
    gpus = {
        "GPUs there": [(s.hour, s.gpus) for s in o.samples],
        "GPUs used": [(s.hour, s.taken_gpus) for s in o.samples],
    }
    queue = {
        "waiting": [(s.hour, float(s.waiting)) for s in o.samples],
        "running": [(s.hour, float(s.running)) for s in o.samples],
    }
    left = "".join(
        f"<li>{html.escape(job)}: {html.escape(why or 'it was still running')}</li>"
        for job, why in list(o.unfinished.items())[:50]
    )
    late = ", ".join(html.escape(job) for job in o.late[:50])
    return (
        f'<section><h2>{html.escape(_who(o))}</h2><div class="plots">'
        + plots.stacked("Dollars by what they went into", o.hourly_usd, unit="USD")
        + plots.lines("Utilisation", gpus, unit="GPUs", steps=True)
        + plots.lines("Queue", queue, unit="jobs", steps=True)
        + "</div>"
        + (f"<p>{len(o.late)} missed their deadlines: {late}{' ...' if len(o.late) > 50 else ''}</p>" if late else "")
        + (f"<p>{len(o.unfinished)} have not ended:</p><ul>{left}</ul>" if left else "")
        + "</section>"
    )


def _log(outcomes: Sequence[Outcome]) -> str:
    entries = [[i, round(e.hour, 3), e.what, e.job, e.text] for i, o in enumerate(outcomes) for e in o.log]
    # In a script element nothing is escaped: no text of a job's may end it.
    plain = json.dumps({"who": [_who(o) for o in outcomes], "log": entries}, separators=(",", ":"))
    data = plain.replace("<", "\\u003c")
    return (
        "<section><h2>Decisions</h2>"
        '<p><input id="find" type="search" placeholder="job, pool, reason, place, requeue, order ..." '
        'aria-label="Search the decisions"> <span id="count"></span></p>'
        '<div class="wide"><table><thead><tr><th>hour</th><th>policy</th><th>what</th><th>job</th><th>how</th></tr>'
        '</thead><tbody id="log"></tbody></table></div>'
        f'<script type="application/json" id="data">{data}</script><script>{_SCRIPT}</script></section>'
    )


_SCRIPT = f"""
const all=JSON.parse(document.getElementById('data').textContent);
const text=all.log.map(e=>(all.who[e[0]]+' '+e.slice(1).join(' ')).toLowerCase());
function show(){{
  const words=document.getElementById('find').value.toLowerCase().split(/\\s+/).filter(Boolean);
  const body=document.getElementById('log'); body.replaceChildren(); let found=0;
  all.log.forEach((e,i)=>{{
    if(!words.every(w=>text[i].includes(w))) return;
    if(found++>={_TOLD}) return;
    const row=body.insertRow();
    for(const c of [e[1].toFixed(2),all.who[e[0]],e[2],e[3],e[4]]) row.insertCell().textContent=c;
  }});
  const more=found>{_TOLD}?', the first {_TOLD} shown':'';
  document.getElementById('count').textContent=found+' of '+all.log.length+more;
}}
document.getElementById('find').addEventListener('input',show); show();
"""


def _css() -> str:
    def colours(night: int) -> str:
        areas = "".join(f".c-{n}{{fill:{c[night]}}}.k-{n}{{background:{c[night]}}}" for n, c in _COLOURS.items())
        return areas + "".join(
            f".l-{i}{{stroke:{c[night]}}}.b-{i}{{background:{c[night]}}}" for i, c in enumerate(_LINES)
        )

    return (
        ":root{--paper:#fff;--ink:#1c2128;--faint:#646d79;--rule:#dfe3e8;--best:#e6f5ec}"
        "@media(prefers-color-scheme:dark){:root{--paper:#14171c;--ink:#e4e8ee;--faint:#97a1af;--rule:#2e343d;--best:#173226}"
        f"{colours(1)}}}@media not (prefers-color-scheme:dark){{{colours(0)}}}"
        "body{font:14px/1.45 system-ui,sans-serif;background:var(--paper);color:var(--ink);margin:2rem auto;"
        "max-width:1600px;padding:0 1rem}h1{font-size:1.4rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}"
        ".wide{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}"
        "th,td{padding:.25rem .6rem;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top}"
        "thead th{color:var(--faint);font-weight:500;white-space:nowrap}tbody th{white-space:nowrap;font-weight:600}"
        ".sums td{white-space:nowrap;text-align:right}.best{background:var(--best)}.plots{display:grid;gap:1rem;"
        "grid-template-columns:repeat(auto-fit,minmax(420px,1fr))}figure{margin:0}figcaption{font-weight:600}"
        "small{color:var(--faint);font-weight:400}svg{width:100%;height:auto}svg text{fill:var(--faint);font-size:13px}"
        ".grid{stroke:var(--rule)}polyline{fill:none;stroke-width:1.6}.keys{color:var(--faint);font-size:12px}"
        ".keys span{margin-right:1rem;white-space:nowrap}.keys i{display:inline-block;width:.7em;height:.7em;"
        "margin-right:.35em;border-radius:2px}input{font:inherit;width:min(32rem,90%);padding:.35rem .6rem;"
        "color:inherit;background:transparent;border:1px solid var(--rule);border-radius:6px}"
    )
