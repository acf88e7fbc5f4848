"""Who may read the metrics, with the roles that the chart has for that, as a real API server sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from holdfast_kube.api_server import APIServer, Patience, load_configuration
from holdfast_kube.scrape_access import ScrapeAccess
from holdfast_testing.api_server import LocalAPIServer, Programs
from holdfast_testing.holdfast_objects import NAMESPACE
from holdfast_testing.kind_cluster import ROOT, run

ROLES = "/apis/rbac.authorization.k8s.io/v1"
OTHERS = "monitoring"


@pytest.fixture(scope="module")
def with_tls(api_server: LocalAPIServer, programs: Programs) -> Iterator[None]:
    """What `metrics.tls.enabled` adds to the roles, and two who scrape, of whom one is bound to the reader's role."""
    command = [str(programs.helm), "template", "holdfast", str(ROOT / "charts" / "holdfast"), "--namespace", NAMESPACE]
    said = run([*command, "--set", "metrics.tls.enabled=true", "--show-only", "templates/monitoring/metrics-tls.yaml"])
    admin = api_server.admin
    roles = [each for each in yaml.safe_load_all(said) if each["kind"].startswith("ClusterRole")]
    for each in roles:
        admin.create(f"{ROLES}/{each['kind'].lower()}s", each)
    admin.create("/api/v1/namespaces", {"metadata": {"name": OTHERS}})
    for name in ("prometheus", "curious"):
        admin.create(f"/api/v1/namespaces/{OTHERS}/serviceaccounts", {"metadata": {"name": name}})
    admin.create(
        f"{ROLES}/clusterrolebindings",
        {
            "metadata": {"name": "prometheus-reads"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io",
                "kind": "ClusterRole",
                "name": "holdfast-metrics-reader",
            },
            "subjects": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": OTHERS}],
        },
    )
    yield
    for each in roles:
        admin.delete(f"{ROLES}/{each['kind'].lower()}s/{each['metadata']['name']}")
    admin.delete(f"{ROLES}/clusterrolebindings/prometheus-reads")
    admin.delete(f"/api/v1/namespaces/{OTHERS}")


@pytest.mark.usefixtures("with_tls")
@pytest.mark.parametrize("component", ["operator", "speaker"])
def test_prometheus_may_read_and_nobody_else(api_server: LocalAPIServer, component: str, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    token = api_server.service_account_token(NAMESPACE, f"holdfast-{component}")
    kubeconfig.write_text(api_server.kubeconfig(token), encoding="utf-8")

    async def said() -> dict[str, int]:
        configuration: Any = await load_configuration(str(kubeconfig))
        async with APIServer(configuration, "test", Patience(5, 15, 60)) as api:
            access = ScrapeAccess(api, time.monotonic)
            tokens = {name: api_server.service_account_token(OTHERS, name) for name in ("prometheus", "curious")}
            return {name: await access.status(f"Bearer {token}") for name, token in (*tokens.items(), ("x", "made-up"))}

    wanted = {"prometheus": 200, "curious": 403, "x": 401}
    api_server.wait_for(lambda: asyncio.run(said()) == wanted, "the roles are in force")
