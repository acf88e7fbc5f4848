"""The command line, the environment, and what is refused."""

from __future__ import annotations

import pytest

from holdfast_api.errors import ConfigurationError
from holdfast_operator import settings
from holdfast_operator.settings import Settings, api_servers_service, parse_networks


@pytest.mark.parametrize(
    ("namespace", "lease_name", "words"),
    [
        ("Holdfast", "holdfast-operator", "--namespace: 'Holdfast' is no name of a namespace"),
        ("a" * 64, "holdfast-operator", "is no name of a namespace"),
        ("holdfast", "holdfast/operator", "--lease-name: 'holdfast/operator' is no name of a Lease"),
        ("holdfast", "", "is no name of a Lease"),
    ],
)
def test_names_that_kubernetes_would_refuse_are_refused(namespace, lease_name, words):
    with pytest.raises(ConfigurationError, match=words):
        Settings.of(namespace, lease_name, ":0")


def test_outside_of_a_pod_the_namespace_has_to_be_given(tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "_NAMESPACE_FILE", tmp_path / "namespace")
    with pytest.raises(ConfigurationError, match="--namespace: must be given outside of a pod"):
        Settings.of(None, "holdfast-operator", ":0")


def test_in_a_pod_the_namespace_is_the_pods(tmp_path, monkeypatch):
    (tmp_path / "namespace").write_text("holdfast-system\n")
    monkeypatch.setattr(settings, "_NAMESPACE_FILE", tmp_path / "namespace")
    assert Settings.of(None, "holdfast-operator", ":0").namespace == "holdfast-system"


def test_a_pod_that_starts_again_is_another_holder_of_the_lease(monkeypatch):
    monkeypatch.setenv("POD_NAME", "operator-1")
    first, second = (Settings.of("ns", "lease", ":0").identity for _ in range(2))
    assert first != second
    assert first.startswith("operator-1_")


@pytest.mark.parametrize("text", ["10.96.0.1/12", "10.96.0.0/33", "services", "10.96.0.0-10.97.0.0"])
def test_what_is_no_network_is_refused_with_its_option(text):
    with pytest.raises(ConfigurationError, match=r"^--service-networks: must be networks between commas: "):
        parse_networks(f"fd00::/64,{text}", "--service-networks")


def test_no_network_is_none():
    assert parse_networks("", "--service-networks") == parse_networks(" , ", "--service-networks") == ()


@pytest.mark.parametrize(
    ("told", "networks"),
    [
        ("10.96.0.1", ("10.96.0.1/32",)),
        ("fd00:96::1", ("fd00:96::1/128",)),
        ("cluster.example.net", ()),
        ("", ()),
    ],
)
def test_the_api_servers_service_is_a_network_where_it_is_an_address(told, networks):
    assert api_servers_service({"KUBERNETES_SERVICE_HOST": told}) == networks
    assert api_servers_service({}) == ()
