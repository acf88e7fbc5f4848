"""What the chart renders, under many values."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.kind

Object = dict[str, Any]

WILD: Object = {
    "fullnameOverride": "vips",
    "commonLabels": {"team": "network"},
    "image": {"repository": "registry.example:5000/net/holdfast", "digest": "sha256:" + "a" * 64},
    "imagePullSecrets": [{"name": "registry"}],
    "operator": {
        "replicas": 3,
        "port": 9090,
        "podLabels": {"a": "b", "app.kubernetes.io/component": "no"},
        "podAnnotations": {"c": "d"},
        "tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "x", "whenUnsatisfiable": "DoNotSchedule"}],
        "serviceAccountAnnotations": {"e": "f"},
        "priorityClassName": "",
    },
    "speaker": {
        "metricsPort": 0,
        "maxSurge": "50%",
        "nodeSelector": {"edge": "true"},
        "tolerations": [],
        "affinity": {"nodeAffinity": {}},
        "podLabels": {"a": "b"},
        "podAnnotations": {"c": "d"},
        "engine": {"resources": {}},
        "agent": {"resources": {"limits": {"memory": "1Gi"}}},
    },
}
BARE: Object = {
    "crds": {"install": False},
    "admissionPolicy": {"enabled": False},
    "operator": {"replicas": 1, "podDisruptionBudget": {"enabled": False}},
}


@pytest.fixture(params=["defaults", "everything", "wild", "bare"])
def objects(request: pytest.FixtureRequest, render: Any, everything_on: Object) -> list[Object]:
    values = {"defaults": {}, "everything": everything_on, "wild": WILD, "bare": BARE}[request.param]
    rendered: list[Object] = render(values)
    return rendered


def of(objects: list[Object], kind: str, name: str = "") -> list[Object]:
    return [found for found in objects if found["kind"] == kind and found["metadata"]["name"].endswith(name)]


def one(objects: list[Object], kind: str, name: str = "") -> Object:
    (found,) = of(objects, kind, name)
    return found


def containers(objects: list[Object]) -> dict[str, Object]:
    workloads = of(objects, "DaemonSet") + of(objects, "Deployment")
    return {each["name"]: each for workload in workloads for each in workload["spec"]["template"]["spec"]["containers"]}


# ----- every rendering -----


def test_lint_finds_nothing(helm: str, chart: Path, tmp_path: Path, everything_on: Object) -> None:
    for values in ({}, everything_on, WILD, BARE):
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values), encoding="utf-8")
        finished = subprocess.run(
            [helm, "lint", "--strict", str(chart), "--values", str(file)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert finished.returncode == 0, finished.stdout + finished.stderr


def test_objects_are_named_once_and_labelled(objects: list[Object]) -> None:
    names = [(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)
    for each in objects:
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "holdfast", each["metadata"]["name"]
        assert labels["app.kubernetes.io/instance"] == "holdfast"
        assert all(isinstance(value, str) for value in labels.values())


def test_namespaced_objects_are_in_the_namespace_of_the_release(objects: list[Object]) -> None:
    cluster_wide = {
        "ClusterRole",
        "ClusterRoleBinding",
        "CustomResourceDefinition",
        "Namespace",
        "ValidatingAdmissionPolicy",
        "ValidatingAdmissionPolicyBinding",
    }
    for each in objects:
        # Where the API server is, the namespace `default` says.
        of_its_own = "default" if each["metadata"]["name"].endswith("-endpoints-operator") else "holdfast-system"
        wanted = None if each["kind"] in cluster_wide else of_its_own
        assert each["metadata"].get("namespace") == wanted, each["kind"]


def test_selectors_find_the_pods_and_no_others(objects: list[Object]) -> None:
    workloads = of(objects, "DaemonSet") + of(objects, "Deployment")
    pods = {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"] for each in workloads}
    selectors = [each["spec"]["selector"]["matchLabels"] for each in workloads + of(objects, "PodDisruptionBudget")]
    selectors += [each["spec"]["selector"] for each in of(objects, "Service")]
    for selector in selectors:
        found = [name for name, labels in pods.items() if selector.items() <= labels.items()]
        assert len(found) == 1
        assert found[0].endswith(selector["app.kubernetes.io/component"])


def test_no_container_has_more_rights_than_it_needs(objects: list[Object]) -> None:
    found = containers(objects)
    assert set(found) == {"engine", "agent", "operator"}
    for name, container in found.items():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert context.get("privileged", False) is False
        assert context["capabilities"]["drop"] == ["ALL"]
        added = context["capabilities"].get("add", [])
        assert added == (["NET_ADMIN", "NET_RAW", "SYS_NICE", "IPC_LOCK"] if name == "engine" else [])


def test_the_engine_alone_is_root(objects: list[Object]) -> None:
    found = containers(objects)
    engine, agent = found["engine"]["securityContext"], found["agent"]["securityContext"]
    assert (engine["runAsUser"], engine["runAsGroup"]) == (0, 65533)
    assert (agent["runAsNonRoot"], agent["runAsUser"], agent["runAsGroup"]) == (True, 65532, 65533)
    assert f"--agent-group={agent['runAsGroup']}" in found["engine"]["args"]


def test_the_agent_alone_has_a_token(objects: list[Object]) -> None:
    pod = one(objects, "DaemonSet")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    tokens = {
        volume["name"]
        for volume in pod["volumes"]
        if any("serviceAccountToken" in source for source in volume.get("projected", {}).get("sources", ()))
        or "secret" in volume
    }
    mounts = {each["name"]: {mount["name"] for mount in each["volumeMounts"]} for each in pod["containers"]}
    assert tokens
    assert mounts["engine"] & tokens == set()
    assert mounts["agent"] >= tokens
    for account in of(objects, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_a_speaker_sees_nothing_of_the_host_but_its_network_and_one_folder(objects: list[Object]) -> None:
    pod = one(objects, "DaemonSet")["spec"]["template"]["spec"]
    assert pod["hostNetwork"] is True
    assert pod["dnsPolicy"] == "ClusterFirstWithHostNet"
    assert not pod.get("hostPID")
    assert not pod.get("hostIPC")
    paths = [volume["hostPath"] for volume in pod["volumes"] if "hostPath" in volume]
    assert paths == [{"path": "/run/holdfast", "type": "DirectoryOrCreate"}]
    operator = one(objects, "Deployment")["spec"]["template"]["spec"]
    assert "hostNetwork" not in operator
    assert "volumes" not in operator


def test_a_speaker_is_replaced_by_one_beside_it(objects: list[Object]) -> None:
    speaker = one(objects, "DaemonSet")["spec"]
    update = speaker["updateStrategy"]["rollingUpdate"]
    assert update["maxUnavailable"] == 0
    assert update["maxSurge"] in (1, "50%")
    for container in speaker["template"]["spec"]["containers"]:
        assert "ports" not in container, "a declared port is a port of the host, and keeps the second pod out"
        assert "readinessProbe" in container


def test_no_probe_can_take_the_engine_down(objects: list[Object]) -> None:
    engine = containers(objects)["engine"]
    assert "livenessProbe" not in engine
    assert "startupProbe" not in engine


def test_the_engine_is_never_throttled(objects: list[Object]) -> None:
    assert "cpu" not in containers(objects)["engine"]["resources"].get("limits", {})


def test_every_container_runs_the_one_image(objects: list[Object]) -> None:
    assert len({each["image"] for each in containers(objects).values()}) == 1


def test_roles_name_every_resource_and_verb(objects: list[Object]) -> None:
    rules = [rule for each in of(objects, "ClusterRole") + of(objects, "Role") for rule in each["rules"]]
    assert rules
    for rule in rules:
        for part in ("apiGroups", "resources", "verbs"):
            assert rule[part]
            assert "*" not in rule[part]
        assert "nonResourceURLs" not in rule
        assert not {"secrets", "configmaps", "serviceaccounts", "pods/exec"} & set(rule["resources"])
        assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])


def test_bindings_lead_to_the_accounts_of_the_release(objects: list[Object]) -> None:
    accounts = {each["metadata"]["name"] for each in of(objects, "ServiceAccount")}
    for binding in of(objects, "ClusterRoleBinding") + of(objects, "RoleBinding"):
        (role,) = of(objects, binding["roleRef"]["kind"], binding["roleRef"]["name"])
        assert role["metadata"]["name"] == binding["roleRef"]["name"]
        (subject,) = binding["subjects"]
        assert subject["name"] in accounts
        assert subject["namespace"] == "holdfast-system"


# ----- an older release -----


def absent_before(now: Object, before: Object) -> Object:
    """Null for every value that an older chart did not have: as Helm has it after `--reuse-values`."""
    return {
        name: absent_before(value, before[name]) if name in before else None
        for name, value in now.items()
        if name not in before or (isinstance(value, dict) and isinstance(before[name], dict))
    }


def test_the_values_of_an_older_release_mean_what_is_the_default_now(
    root: Path, render: Any, default_values: Object
) -> None:
    before = yaml.safe_load((root / "tests" / "data" / "values-of-the-first-chart.yaml").read_text(encoding="utf-8"))
    absent = absent_before(default_values, before)
    assert "metrics" in absent
    assert render(absent) == render()


# ----- what the installation says -----


def notes(helm: str, chart: Path, folder: Path, values: Object, *, upgrade: bool = False) -> str:
    """What `helm install` or `helm upgrade` would print; no cluster is asked."""
    copied = folder / "chart"
    shutil.copytree(chart, copied)
    text = (copied / "templates" / "NOTES.txt").read_text(encoding="utf-8")
    told = text.replace(".Release.IsUpgrade", str(upgrade).lower())
    (copied / "templates" / "NOTES.txt").write_text(told, encoding="utf-8")
    (folder / "values.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [helm, "install", "holdfast", str(copied), "--dry-run=client", "--values", str(folder / "values.yaml")]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    return finished.stdout.partition("\nNOTES:\n")[2]


def test_the_notes_say_that_a_node_holds_whatever_it_is_told_to(helm: str, chart: Path, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    assert "speaker.allowedNetworks is empty" in notes(helm, chart, tmp_path, {})
    closed = {"speaker": {"allowedNetworks": ["10.9.0.0/24"]}}
    assert "allowedNetworks" not in notes(helm, chart, tmp_path / "closed", closed)


def test_the_notes_of_an_upgrade_name_every_default_that_changed(helm: str, chart: Path, tmp_path: Path) -> None:
    (tmp_path / "restored").mkdir()
    said = notes(helm, chart, tmp_path, {}, upgrade=True)
    for value in ("speaker.metricsAddress=All", "speaker.allowedProbeNetworks", "controlPlanes=true", "pools.required"):
        assert value in said
    before = {"speaker": {"metricsAddress": "All", "allowedProbeNetworks": ["0.0.0.0/0", "::/0"]}}
    said = notes(helm, chart, tmp_path / "restored", before, upgrade=True)
    assert "metricsAddress" not in said
    assert "allowedProbeNetworks" not in said


# ----- single values -----


def test_roles_are_those_that_the_page_about_kubernetes_shows(root: Path, render: Any) -> None:
    page = (root / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    rows = set(
        re.findall(r"^\| (operator|speaker|view|edit) \| `([^`]+)` \| `([^`]+)` \| ([a-z, ]+) \|", page, re.MULTILINE)
    )
    rendered = set()
    for role in of(render(), "ClusterRole") + of(render(), "Role"):
        component = role["metadata"]["name"].rpartition("-")[2]
        for rule in role["rules"]:
            for resource in rule["resources"]:
                rendered.add((component, rule["apiGroups"][0] or "core", resource, ", ".join(rule["verbs"])))
    assert rows == rendered


@pytest.mark.parametrize(
    ("to", "edit_reaches"), [("", set()), ("admin", {"admin"}), ("edit", {"admin", "edit"})], ids=["", "admin", "edit"]
)
def test_viewing_is_given_to_who_views_a_namespace_and_editing_to_whom_the_administrator_says(
    render: Any, to: str, edit_reaches: set[str]
) -> None:
    def reached(objects: list[Object], name: str) -> set[str]:
        labels = one(objects, "ClusterRole", name)["metadata"]["labels"]
        begin = "rbac.authorization.k8s.io/aggregate-to-"
        return {key.removeprefix(begin) for key in labels if key.startswith(begin)}

    objects = render({"rbac": {"aggregateEditTo": to}})
    assert reached(objects, "holdfast-view") == {"view", "edit", "admin"}
    assert reached(objects, "holdfast-edit") == edit_reaches
    assert reached(render({"rbac": {"aggregateView": False}}), "holdfast-view") == set()


def test_what_users_may_do_ends_at_the_virtual_ips_of_a_namespace(render: Any) -> None:
    for name in ("holdfast-view", "holdfast-edit"):
        rules = one(render(), "ClusterRole", name)["rules"]
        assert {resource for rule in rules for resource in rule["resources"]} == {"virtualips", "addresspools"}
        (pools,) = (rule for rule in rules if rule["resources"] == ["addresspools"])
        assert pools["verbs"] == ["get", "list", "watch"]


def test_the_image_is_the_chart_s_version_unless_said_otherwise(render: Any) -> None:
    assert containers(render())["engine"]["image"] == "holdfast:0.1.0"
    assert containers(render({"image": {"tag": "e2e"}}))["engine"]["image"] == "holdfast:e2e"
    assert containers(render(WILD))["engine"]["image"] == f"registry.example:5000/net/holdfast@sha256:{'a' * 64}"


def test_definitions_come_unchanged_and_are_kept(root: Path, render: Any) -> None:
    for path in sorted((root / "crds").glob("*.yaml")):
        source = yaml.safe_load(path.read_text(encoding="utf-8"))
        kept = one(render(), "CustomResourceDefinition", source["metadata"]["name"])
        assert kept["spec"] == source["spec"]
        assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
        loose = one(render({"crds": {"keep": False}}), "CustomResourceDefinition", source["metadata"]["name"])
        assert loose["spec"] == source["spec"]
        assert "helm.sh/resource-policy" not in loose["metadata"].get("annotations", {})
    assert of(render({"crds": {"install": False}}), "CustomResourceDefinition") == []


def test_the_operator_meets_the_pod_security_level_restricted(render: Any) -> None:
    pod = one(render(), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 65532
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_replicas_of_the_operator_stay_apart_and_one_is_left_at_a_drain(render: Any) -> None:
    objects = render()
    operator = one(objects, "Deployment")
    assert operator["spec"]["replicas"] == 2
    term = operator["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
    (preferred,) = term["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["podAffinityTerm"]["topologyKey"] == "kubernetes.io/hostname"
    spread = operator["spec"]["template"]["spec"]["topologySpreadConstraints"]
    # A preference alone did not keep them apart: on three nodes both were seen to land on one, which was then killed.
    assert {each["topologyKey"]: each["whenUnsatisfiable"] for each in spread} == {
        "topology.kubernetes.io/zone": "ScheduleAnyway",
        "kubernetes.io/hostname": "DoNotSchedule",
    }
    # During a rolling update the old pods do not count, nor do nodes whose taints keep both away.
    assert [each["matchLabelKeys"] for each in spread] == [["pod-template-hash"]] * 2
    assert [each["nodeTaintsPolicy"] for each in spread] == ["Honor"] * 2
    assert one(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert of(render({"operator": {"replicas": 1}}), "PodDisruptionBudget") == []


def test_what_asks_for_the_operator_s_port_finds_it(render: Any) -> None:
    objects = render({"operator": {"port": 9090, "networkPolicy": {"enabled": True}}})
    operator = containers(objects)["operator"]
    assert "--health-address=:9090" in operator["args"]
    assert [port["containerPort"] for port in operator["ports"]] == [9090]
    assert one(objects, "Service", "operator")["spec"]["ports"][0]["targetPort"] == 9090
    assert one(objects, "NetworkPolicy")["spec"]["ingress"] == [{"ports": [{"port": 9090, "protocol": "TCP"}]}]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert operator[probe]["httpGet"]["port"] == operator["ports"][0]["name"]


def test_the_lease_that_the_operator_asks_for_is_the_one_it_may_have(render: Any) -> None:
    for values in ({}, WILD):
        objects = render(values)
        roles = [role for role in of(objects, "Role") if role["metadata"]["namespace"] == "holdfast-system"]
        (name,) = (rule["resourceNames"] for role in roles for rule in role["rules"] if "resourceNames" in rule)
        assert f"--lease-name={name[0]}" in containers(objects)["operator"]["args"]


def test_metrics_of_the_speakers_can_be_switched_off(render: Any) -> None:
    on, off = render(), render({"speaker": {"metricsPort": 0}, "serviceMonitor": {"enabled": True}})
    assert "--metrics-address=[$(HOST_IP)]:9475" in containers(on)["agent"]["args"]
    assert one(on, "Service", "speaker")["spec"]["ports"][0]["targetPort"] == 9475
    assert "--metrics-address=" in containers(off)["agent"]["args"]
    assert of(off, "Service", "speaker") == []
    assert of(off, "ServiceMonitor", "speaker") == []


def test_metrics_are_on_the_node_s_own_address_or_where_one_says(render: Any) -> None:
    environment = {each["name"]: each for each in containers(render())["agent"]["env"]}
    assert environment["HOST_IP"]["valueFrom"] == {"fieldRef": {"fieldPath": "status.hostIP"}}
    for address, wanted in (("All", ":9475"), ("127.0.0.1", "[127.0.0.1]:9475"), ("::1", "[::1]:9475")):
        arguments = containers(render({"speaker": {"metricsAddress": address}}))["agent"]["args"]
        assert f"--metrics-address={wanted}" in arguments


def test_agents_ask_the_service_proxy_at_the_node_s_own_addresses_of_both_families(render: Any) -> None:
    agent = containers(render())["agent"]
    environment = {each["name"]: each for each in agent["env"]}
    assert environment["HOST_IPS"]["valueFrom"] == {"fieldRef": {"fieldPath": "status.hostIPs"}}
    assert "--host-address=$(HOST_IPS)" in agent["args"]


def mounted_secrets(workload: Object) -> dict[str, str]:
    """Which Secret is where in a workload's containers."""
    pod = workload["spec"]["template"]["spec"]
    secrets = {each["name"]: each["secret"]["secretName"] for each in pod.get("volumes", ()) if "secret" in each}
    mounts = [mount for each in pod["containers"] for mount in each.get("volumeMounts", ())]
    return {mount["mountPath"]: secrets[mount["name"]] for mount in mounts if mount["name"] in secrets}


@pytest.mark.parametrize("own", ["", "from-cert-manager"])
def test_metrics_over_tls_are_for_who_may_read_them(render: Any, own: str) -> None:
    tls = {"enabled": True, "secretName": own, "serverName": "metrics.example" if own else ""}
    objects = render({"metrics": {"tls": tls}, "serviceMonitor": {"enabled": True}})
    secret = own or "holdfast-metrics"
    for workload in (one(objects, "DaemonSet"), one(objects, "Deployment")):
        assert mounted_secrets(workload) == {"/etc/holdfast/metrics-tls": secret}
    for name in ("agent", "operator"):
        assert "--metrics-tls-dir=/etc/holdfast/metrics-tls" in containers(objects)[name]["args"]
    assert not any("tls" in argument for argument in containers(objects)["engine"]["args"])
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert containers(objects)["operator"][probe]["httpGet"]["scheme"] == "HTTPS"
    assert bool(of(objects, "Secret")) is not bool(own)
    for monitor in of(objects, "ServiceMonitor"):
        (endpoint,) = monitor["spec"]["endpoints"]
        assert (endpoint["scheme"], "bearerTokenFile" in endpoint) == ("https", True)
        assert endpoint["tlsConfig"] == {
            "serverName": "metrics.example" if own else "holdfast-metrics",
            "ca": {"secret": {"name": secret, "key": "ca.crt" if own else "tls.crt"}},
        }
    subjects = one(objects, "ClusterRoleBinding", "metrics-review")["subjects"]
    assert {each["name"] for each in subjects} == {"holdfast-operator", "holdfast-speaker"}
    assert one(objects, "ClusterRole", "metrics-reader")["rules"] == [
        {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
    ]


def test_without_tls_nobody_may_review_tokens(render: Any) -> None:
    rules = [rule for each in of(render(), "ClusterRole") for rule in each["rules"]]
    assert not any({"tokenreviews", "subjectaccessreviews"} & set(rule.get("resources", ())) for rule in rules)
    assert of(render(), "Secret") == []


def test_prometheus_finds_the_services(render: Any, everything_on: Object) -> None:
    objects = render(everything_on)
    services = of(objects, "Service")
    for monitor in of(objects, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        (service,) = (each for each in services if wanted.items() <= each["metadata"]["labels"].items())
        (endpoint,) = monitor["spec"]["endpoints"]
        assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]


def test_alerts_reach_prometheus_with_its_own_templates(render: Any) -> None:
    values = {"prometheusRule": {"enabled": True, "alertLabels": {"team": "network", "severity": "none"}}}
    rules = [rule for group in one(render(values), "PrometheusRule")["spec"]["groups"] for rule in group["rules"]]
    by_name = {rule["alert"]: rule for rule in rules}
    assert by_name["HoldfastVIPNotHeld"]["annotations"]["summary"] == "Nobody holds {{ $labels.virtual_ip }}"
    assert by_name["HoldfastVIPNotHeld"]["labels"] == {"severity": "critical", "team": "network"}
    assert by_name["HoldfastSpeakerDown"]["expr"] == 'up{namespace="holdfast-system", service="holdfast-speaker"} == 0'


def test_the_dashboard_arrives_as_it_is_in_the_chart(chart: Path, render: Any, everything_on: Object) -> None:
    found = one(render(everything_on), "ConfigMap")
    source = (chart / "files" / "dashboards" / "holdfast.json").read_text(encoding="utf-8")
    assert found["data"]["holdfast.json"].strip() == source.strip()
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1"


def test_the_namespace_that_the_chart_makes_lets_speakers_in(render: Any, everything_on: Object) -> None:
    labels = one(render(everything_on), "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "privileged"
    assert of(render(), "Namespace") == []


def test_pod_labels_of_the_user_never_replace_those_that_select(render: Any) -> None:
    labels = one(render(WILD), "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels["app.kubernetes.io/component"] == "operator"
    assert labels["a"] == "b"
    assert labels["team"] == "network"


def test_a_new_version_of_the_chart_alone_replaces_no_pod(render: Any) -> None:
    for kind in ("DaemonSet", "Deployment"):
        labels = one(render(), kind)["spec"]["template"]["metadata"]["labels"]
        assert not {"helm.sh/chart", "app.kubernetes.io/version"} & set(labels)


def test_speakers_are_on_the_control_plane_too_and_leave_a_node_that_evicts(render: Any) -> None:
    pod = one(render(), "DaemonSet")["spec"]["template"]["spec"]
    assert pod["tolerations"] == [{"operator": "Exists", "effect": "NoSchedule"}]
    assert pod["nodeSelector"] == {"kubernetes.io/os": "linux"}
    assert pod["priorityClassName"] == "system-node-critical"


def test_names_stay_within_their_limit(render: Any) -> None:
    for each in render({"fullnameOverride": "a" * 40}):
        assert len(each["metadata"]["name"]) <= 63, each["metadata"]["name"]


def test_older_clusters_are_refused(template: Any) -> None:
    assert template({}, "--kube-version", "1.30.0").returncode == 0
    refused = template({}, "--kube-version", "1.29.9")
    assert refused.returncode != 0
    assert "kubeVersion" in refused.stderr


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"speakers": {}}, "speakers"),
        ({"operator": {"replica": 2}}, "replica"),
        ({"operator": {"replicas": -1}}, "replicas"),
        ({"operator": {"replicas": "two"}}, "replicas"),
        ({"operator": {"logLevel": "trace"}}, "logLevel"),
        ({"operator": {"port": 70000}}, "port"),
        ({"operator": {"resources": {"limits": {"memory": "lots"}}}}, "memory"),
        ({"operator": {"networkPolicy": {"apiServerPorts": []}}}, "apiServerPorts"),
        ({"image": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
        ({"image": {"digest": "deadbeef"}}, "digest"),
        ({"image": {"repository": ""}}, "repository"),
        ({"speaker": {"maxSurge": 0}}, "maxSurge"),
        ({"speaker": {"maxSurge": "0%"}}, "maxSurge"),
        ({"speaker": {"metricsPort": -1}}, "metricsPort"),
        ({"speaker": {"terminationGracePeriodSeconds": 5}}, "terminationGracePeriodSeconds"),
        ({"speaker": {"tolerations": [{"operator": "Always"}]}}, "tolerations"),
        ({"speaker": {"nodeSelector": {"edge": True}}}, "nodeSelector"),
        ({"speaker": {"engine": {"capabilities": ["SYS_ADMIN"]}}}, "capabilities"),
        ({"crds": {"keep": "yes"}}, "keep"),
        ({"serviceMonitor": {"interval": "soon"}}, "interval"),
        ({"fullnameOverride": "Not_A_Name"}, "fullnameOverride"),
        ({"imagePullSecrets": ["registry"]}, "imagePullSecrets"),
    ],
)
def test_wrong_values_are_refused_by_name(template: Any, values: Object, field: str) -> None:
    refused = template(values)
    assert refused.returncode != 0
    assert field in refused.stderr


# ----- values that came later -----


def test_every_template_completes_the_values_first(chart: Path) -> None:
    templates = [path for path in (chart / "templates").rglob("*") if path.is_file() and path.suffix != ".tpl"]
    assert templates
    for path in templates:
        assert path.read_text(encoding="utf-8").startswith('{{- include "holdfast.complete" . -}}\n'), path.name


def test_what_came_after_the_first_release_has_the_same_default_in_both_places(
    chart: Path, root: Path, default_values: Any
) -> None:
    helpers = (chart / "templates" / "_helpers.tpl").read_text(encoding="utf-8")
    (text,) = re.findall(r'define "holdfast.laterValues" -\}\}\n(.*?)\{\{- end', helpers, re.DOTALL)
    first = yaml.safe_load((root / "tests" / "data" / "values-of-the-first-chart.yaml").read_text())

    def later(values: Any, known: Any) -> Any:
        added = {name: value for name, value in values.items() if name not in known}
        for name in values.keys() & known.keys():
            if isinstance(values[name], dict) and (inner := later(values[name], known[name])):
                added[name] = inner
        return added

    assert yaml.safe_load(text) == later(default_values, first)
