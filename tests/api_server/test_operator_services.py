"""What the operator's token may do of Services and of the VirtualIPs that it makes for them, and what it may not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from holdfast_testing.api_server import STRATEGIC, Answer, Client, LocalAPIServer
from holdfast_testing.holdfast_objects import NAMESPACE, OPERATOR, Object, virtual_ip, virtual_ips

SERVICES = "/api/v1/namespaces/default/services"
WEB = f"{SERVICES}/web"
FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
CLASS = "holdfast.dev/vrrp"
LABEL = "holdfast.dev/service-vip"
ROLES = "/apis/rbac.authorization.k8s.io/v1"


def service(name: str = "web", of_class: str | None = CLASS, **metadata: object) -> Object:
    spec: Object = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": "default", "name": name, **metadata},
        "spec": spec | ({"loadBalancerClass": of_class} if of_class else {}),
    }


@pytest.fixture
def operator(api_server: LocalAPIServer) -> Client:
    return api_server.client(api_server.service_account_token(NAMESPACE, OPERATOR))


@pytest.fixture
def admin(api_server: LocalAPIServer) -> Iterator[Client]:
    """Whatever Services and VirtualIPs there are afterwards go."""
    yield api_server.admin
    for path in (SERVICES, virtual_ips()):
        for found in api_server.admin.get(path)["items"]:
            name = found["metadata"]["name"]
            if name != "kubernetes":
                api_server.admin.merge(f"{path}/{name}", {"metadata": {"finalizers": None}})
                api_server.admin.delete(f"{path}/{name}")


def finalize(client: Client, path: str, uid: str, patch: Object) -> Answer:
    """As the operator's writer patches finalizers."""
    body = {"metadata": {"uid": uid, **patch}}
    return client.request("PATCH", f"{path}/status", body, content_type=STRATEGIC, query={"fieldManager": OPERATOR})


def tell(client: Client, made: Object, address: str) -> Answer:
    status = {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}
    metadata = {key: made["metadata"][key] for key in ("namespace", "name", "uid")}
    body = {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "status": status}
    return client.apply(f"{SERVICES}/{metadata['name']}/status", body, OPERATOR)


def owned(made: Object, name: str = "web", **labels: str) -> Object:
    owner = {"apiVersion": "v1", "kind": "Service", "name": "web", "uid": made["metadata"]["uid"]}
    found = virtual_ip(name)
    found["metadata"] |= {"labels": {LABEL: "true"} | labels, "ownerReferences": [owner]}
    return found


def test_the_operator_gives_a_service_its_finalizer_its_virtual_ip_and_its_address(
    operator: Client, admin: Client
) -> None:
    uid = (made := admin.create(SERVICES, service()))["metadata"]["uid"]
    assert finalize(operator, WEB, uid, {"finalizers": [FINALIZER]}).message == ""
    assert operator.apply(f"{virtual_ips()}/web", owned(made), OPERATOR).message == ""
    assert operator.apply(f"{virtual_ips()}/web", owned(made, a="b"), OPERATOR).message == ""
    assert tell(operator, made, "192.0.2.1").message == ""
    told = admin.get(WEB)
    assert told["metadata"]["finalizers"] == [FINALIZER]
    assert told["status"]["loadBalancer"]["ingress"] == [{"ip": "192.0.2.1", "ipMode": "VIP"}]
    admin.delete(WEB)
    assert operator.request("DELETE", f"{virtual_ips()}/web").message == ""
    assert finalize(operator, WEB, uid, {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}).message == ""
    assert admin.request("GET", WEB).status == 404


def test_the_operator_cannot_write_anything_else_of_a_service(operator: Client, admin: Client) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}
    before = admin.create(SERVICES, service(labels={"a": "b"}, annotations={"a": "b"}, finalizers=["example.com/x"]))
    patches: list[Object] = [
        {"metadata": {"labels": {"a": "c"}}},
        {"metadata": {"labels": None}},
        {"metadata": {"labels": {"c": "d"}}},
        {"metadata": {"annotations": {"a": None}}},
        {"metadata": {"annotations": {"holdfast.dev/pool": "another"}}},
        {"metadata": {"ownerReferences": [owner]}},
        {"metadata": {"finalizers": ["example.com/y"]}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": ["example.com/x"]}},
    ]
    answers = [
        operator.request("PATCH", f"{WEB}/status", body, content_type=STRATEGIC, query={"fieldManager": OPERATOR})
        for body in patches
    ]
    # Through the status nothing of the spec is written, and what is not the status is out of reach.
    operator.merge(f"{WEB}/status", {"spec": {"ports": [{"port": 22}], "externalIPs": ["192.0.2.1"]}}, OPERATOR)
    answers += [
        operator.merge(WEB, {"spec": {"externalIPs": ["192.0.2.1"]}}, OPERATOR),
        operator.merge(WEB, {"metadata": {"finalizers": [FINALIZER]}}, OPERATOR),
        operator.apply(WEB, service(), OPERATOR),
        operator.request("PUT", WEB, before),
        operator.request("PUT", f"{WEB}/status", before),
    ]
    assert [answer.status for answer in answers] == [403] * len(answers), [answer.message for answer in answers]
    after = admin.get(WEB)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_the_operator_cannot_make_or_delete_a_service(operator: Client, admin: Client) -> None:
    admin.create(SERVICES, service())
    answers = [
        operator.request("POST", SERVICES, service("mine")),
        operator.apply(f"{SERVICES}/mine", service("mine"), OPERATOR),
        operator.request("DELETE", WEB),
        operator.request("DELETE", SERVICES),
    ]
    assert [answer.status for answer in answers] == [403] * len(answers)


@pytest.mark.parametrize("of_class", ["example.com/other", None])
def test_the_operator_cannot_give_anything_to_services_of_others(
    operator: Client, admin: Client, of_class: str | None
) -> None:
    made = admin.create(SERVICES, service(of_class=of_class))
    there = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9", "ipMode": "VIP"}]}}}
    assert admin.merge(f"{WEB}/status", there).status == 200
    answers = [
        tell(operator, made, "192.0.2.1"),
        finalize(operator, WEB, made["metadata"]["uid"], {"finalizers": [FINALIZER]}),
    ]
    assert [answer.status for answer in answers] == [403, 403]
    assert all("of its own class alone" in answer.message for answer in answers)
    assert admin.get(WEB)["status"] == there["status"]


def test_whatever_rbac_may_let_the_operator_do_one_day_it_cannot_write_services(
    operator: Client, admin: Client
) -> None:
    role = {
        "metadata": {"name": "by-mistake"},
        "rules": [{"apiGroups": [""], "resources": ["services", "services/status"], "verbs": ["*"]}],
    }
    binding = {
        "metadata": {"name": "by-mistake"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "by-mistake"},
        "subjects": [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": NAMESPACE}],
    }
    before = admin.create(SERVICES, service())
    admin.create(f"{ROLES}/clusterroles", role)
    admin.create(f"{ROLES}/clusterrolebindings", binding)
    try:
        answers = [
            operator.merge(WEB, {"spec": {"externalIPs": ["192.0.2.1"]}}, OPERATOR),
            operator.merge(WEB, {"metadata": {"labels": {"a": "b"}}}, OPERATOR),
            operator.request("PUT", WEB, {**before, "spec": {**before["spec"], "ports": [{"port": 22}]}}),
            operator.request("POST", SERVICES, service("mine")),
            operator.request("DELETE", WEB),
        ]
        # RBAC may take a moment, and says no then as well; by its words it was the policy.
        assert [answer.status for answer in answers] == [403] * len(answers)
        assert "the operator may" in answers[-1].message
    finally:
        admin.delete(f"{ROLES}/clusterrolebindings/by-mistake")
        admin.delete(f"{ROLES}/clusterroles/by-mistake")
    assert admin.get(WEB)["spec"] == before["spec"]


def test_the_operator_cannot_make_a_virtual_ip_that_no_service_owns(operator: Client, admin: Client) -> None:
    made = admin.create(SERVICES, service())
    unowned, of_another_kind = owned(made), owned(made)
    del unowned["metadata"]["ownerReferences"]
    of_another_kind["metadata"]["ownerReferences"][0] |= {"kind": "ConfigMap"}
    unlabelled = owned(made)
    del unlabelled["metadata"]["labels"]
    for body in (unowned, of_another_kind, unlabelled):
        assert operator.apply(f"{virtual_ips()}/web", body, OPERATOR).status == 403
        assert operator.request("POST", virtual_ips(), body).status == 403


def test_the_operator_cannot_make_a_users_virtual_ip_its_own_or_give_one_of_its_own_away(
    operator: Client, admin: Client
) -> None:
    made = admin.create(SERVICES, service())
    admin.create(virtual_ips(), virtual_ip("users"))
    assert operator.apply(f"{virtual_ips()}/users", owned(made, "users"), OPERATOR).status == 403
    assert operator.request("DELETE", f"{virtual_ips()}/users").status == 403
    assert operator.apply(f"{virtual_ips()}/web", owned(made), OPERATOR).status == 201
    assert operator.merge(f"{virtual_ips()}/web", {"metadata": {"labels": None}}, OPERATOR).status == 403
    assert operator.request("DELETE", virtual_ips()).status == 403


def test_a_user_cannot_pass_a_virtual_ip_off_as_the_operators_nor_the_operators_as_its_own(
    operator: Client, admin: Client
) -> None:
    """Whoever may write VirtualIPs, an administrator among them, with an owner of their own as well."""
    made = admin.create(SERVICES, service())
    admin.create(virtual_ips(), virtual_ip("users"))
    assert operator.apply(f"{virtual_ips()}/web", owned(made), OPERATOR).status == 201
    answers = [
        admin.request("POST", virtual_ips(), owned(made, "forged")),
        admin.apply(f"{virtual_ips()}/forged", owned(made, "forged"), OPERATOR),
        admin.apply(f"{virtual_ips()}/users", owned(made, "users"), OPERATOR),
        admin.merge(f"{virtual_ips()}/users", {"metadata": {"labels": {LABEL: "true"}}}),
        admin.merge(f"{virtual_ips()}/web", {"metadata": {"labels": {LABEL: None}}}),
        admin.merge(f"{virtual_ips()}/web", {"metadata": {"labels": {LABEL: "false"}}}),
    ]
    assert [answer.status for answer in answers] == [403] * len(answers)
    as_the_operator = virtual_ip("users", priority=200)
    managed = {"manager": OPERATOR, "operation": "Update", "apiVersion": "holdfast.dev/v1alpha1"}
    fields = {"fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:addresses": {}}}}
    answers = [
        admin.apply(f"{virtual_ips()}/users", as_the_operator, OPERATOR),
        admin.apply(f"{virtual_ips()}/forged", virtual_ip("forged"), OPERATOR),
        admin.merge(f"{virtual_ips()}/users", {"spec": {"priority": 200}}, OPERATOR),
        admin.merge(f"{virtual_ips()}/users", {"metadata": {"managedFields": [managed | fields]}}),
        admin.merge(f"{virtual_ips()}/web", {"metadata": {"managedFields": [managed | fields | {"manager": "me"}]}}),
        admin.merge(f"{virtual_ips()}/web", {"metadata": {"managedFields": [{}]}}),
    ]
    assert [answer.status for answer in answers] == [403] * len(answers)
    # All else is theirs to do: the operator puts it right.
    assert admin.merge(f"{virtual_ips()}/web", {"spec": {"priority": 200}}).status == 200
    assert admin.request("DELETE", f"{virtual_ips()}/web").status == 200
