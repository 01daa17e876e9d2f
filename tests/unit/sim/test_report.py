"""The page: whole, self-contained, and safe against what jobs are called."""

import json
import re
from html.parser import HTMLParser

from stint.sim import plots
from stint.sim.loop import simulate
from stint.sim.policies import POLICIES
from stint.sim.report import page
from tests.stages import a_stage, submitted

_VOID = {"meta", "line", "polygon", "polyline", "input"}


class _Balanced(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.external = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in _VOID:
            self.open.append(tag)
        self.external += [v for k, v in attrs if k in ("src", "href")]

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag in _VOID or (tag in ("polygon", "polyline")):
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def _outcomes(name="j</script><b>"):
    jobs = [submitted(f"{name}{i}", i * 0.5, hours=2.0, deadline_hours=i * 0.5 + 1) for i in range(6)]
    return [simulate(a_stage(jobs), POLICIES[p]) for p in ("stint-greedy", "fifo")]


def test_every_tag_is_closed_and_nothing_is_fetched():
    text = page("a <b> & c", _outcomes())
    parser = _Balanced()
    parser.feed(text)
    assert (parser.open, parser.wrong, parser.external) == ([], [], [])
    assert "http" not in text


def test_the_log_holds_every_decision():
    outcomes = _outcomes()
    found = re.search(r'id="data">(.*?)</script>', page("x", outcomes))
    data = json.loads(found.group(1))
    assert len(data["log"]) == sum(len(o.log) for o in outcomes)
    assert data["log"][0][3].startswith("team/j</script><b>")


def test_a_report_of_nothing_is_a_page_too():
    assert "</html>" in page("nothing", [])


def test_areas_lie_on_top_of_each_other():
    text = plots.stacked("x", {"useful": [1.0, 1.0], "idle": [1.0, 3.0], "held": [0.0]}, unit="USD")
    assert text.count("<polygon") == 2
    assert "c-held" not in text
    assert ">5<" in text  # the axis ends at the next round number above 4


def test_steps_hold_until_the_next_one():
    text = plots.lines("x", {"a": [(0.0, 0.0), (1.0, 1.0)]}, unit="jobs", steps=True)
    points = re.search(r'points="([^"]*)"', text).group(1).split()
    assert points[0].split(",")[1] == points[1].split(",")[1]
