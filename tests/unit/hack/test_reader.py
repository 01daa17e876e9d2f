from __future__ import annotations

import pytest

from hack.cluster.reader import understood


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("-n t1 get tj job -o json --ignore-not-found", ("tj", "job", "t1", "", True)),
        ("get pods -A -o json", ("pods", "", None, "", False)),
        ("-n t1 get pods -l a=b,c=d -o json", ("pods", "", "t1", "a=b,c=d", False)),
        ("get events.events.k8s.io -o json", ("events.events.k8s.io", "", "default", "", False)),
    ],
)
def test_plain_questions_are_understood(arguments, expected):
    asked = understood(arguments.split())
    assert asked is not None
    assert (asked.resource, asked.name, asked.namespace, asked.selector, asked.absent_is_fine) == expected


@pytest.mark.parametrize(
    "arguments",
    [
        "get pods",
        "get pods -o wide",
        "get pods,jobs -o json",
        "get --raw /metrics",
        "get pod/a -o json",
        "delete pod a",
        "get pods a b -o json",
        "get pods -w -o json",
        "get tj -o jsonpath={.items}",
    ],
)
def test_all_else_is_left_to_kubectl(arguments):
    assert understood(arguments.split()) is None
