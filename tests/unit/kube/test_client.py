"""Where the API server is, as files say it that others write."""

from __future__ import annotations

from pathlib import Path

import pytest

from stint.errors import StintError
from stint.kube.client import connect

KUBECONFIG = """apiVersion: v1
kind: Config
clusters:
- name: c
  cluster: {server: "https://127.0.0.1:6443"}
contexts:
- name: x
  context: {cluster: c, user: u}
current-context: x
users:
- name: u
  user: {token: "TOKEN"}
"""


def test_a_token_that_was_replaced_is_read_again(tmp_path: Path):
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG)
    connection = connect(file)
    assert connection.token() == "TOKEN"
    assert not connection.renew()
    file.write_text(KUBECONFIG.replace("TOKEN", "another"))
    assert connection.renew()
    assert connection.token() == "another"


def test_a_kubeconfig_that_is_just_being_written_ends_nothing(tmp_path: Path):
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG)
    connection = connect(file)
    for length in range(len(KUBECONFIG)):
        file.write_text(KUBECONFIG[:length])
        connection.renew()
    file.unlink()
    connection.renew()
    file.write_text(KUBECONFIG.replace("TOKEN", "another"))
    assert connection.renew()
    assert connection.token() == "another"


@pytest.mark.parametrize("text", ["", "{", "clusters: 3", "- a"])
def test_a_kubeconfig_that_cannot_be_read_says_so_in_one_line(tmp_path: Path, text: str):
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    with pytest.raises(StintError, match=r"no cluster: .*set KUBECONFIG"):
        connect(file)
