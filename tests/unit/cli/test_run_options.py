"""What `stint run` is told, before anything is started."""

from __future__ import annotations

import pytest

from stint.cli.main import main, parser

URL = "--prometheus-url=https://prometheus.example.com"


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--prometheus-username=stint"], "go together"),
        (["--prometheus-password-file=/p"], "go together"),
        (["--prometheus-username=s", "--prometheus-password-file=/p", "--prometheus-token-file=/t"], "not both"),
        (["--prometheus-ca-file=/c", "--prometheus-insecure"], "drop it"),
    ],
)
def test_contradictions_are_told(capsys: pytest.CaptureFixture[str], flags: list[str], says: str):
    assert main(["run", URL, *flags]) == 1
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("text", ["pod", ",pod", "namespace,"])
def test_half_a_pair_of_labels_is_refused(text: str):
    with pytest.raises(SystemExit):
        parser().parse_args(["run", f"--prometheus-pod-labels={text}"])


def test_the_deployment_of_an_earlier_chart_starts_and_says_what_has_changed(capsys: pytest.CaptureFixture[str]):
    assert parser().parse_args(["run", "--solver=auto"]).solver == "portfolio"
    assert "portfolio takes its place" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parser().parse_args(["run", "--solver=guess"])
