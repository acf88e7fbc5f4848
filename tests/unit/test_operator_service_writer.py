"""What a plan has for Services is given in an order that leaves nothing behind, whoever dies meanwhile."""

from __future__ import annotations

import dataclasses

import pytest

from holdfast_operator.writer import NotLeader
from holdfast_testing.operator_world import Bench, play, populate, put_virtual_ip, tell_links, tell_master
from holdfast_testing.service_world import LABELS, has_finalizer, put_service, service_plan, virtual_ip_of

SERVICE = "/api/v1/namespaces/shop/services/web"
VIRTUAL_IPS = "/apis/holdfast.dev/v1alpha1/namespaces/shop/virtualips"
SPEAKER = "/apis/holdfast.dev/v1alpha1/speakerconfigs"
WEB = "shop/web"
OTHERS = {"type": "example.com/Known", "status": "True", "reason": "R", "message": "", "lastTransitionTime": ""}


async def settle(bench: Bench) -> None:
    """Two nodes that have said what runs, and a planner that gives Services addresses."""
    populate(bench.fake, virtual_ips=())
    bench.plan = service_plan
    assert await bench.once()
    tell_links(bench.fake, "n1", "n2")
    assert await bench.once()
    bench.fake.requests.clear()


async def settle_with_service(bench: Bench) -> None:
    await settle(bench)
    put_service(bench.fake, WEB)
    await until_nothing_is_written(bench)
    tell_master(bench.fake, WEB, "n1")
    await until_nothing_is_written(bench)


async def until_nothing_is_written(bench: Bench) -> None:
    for _ in range(10):
        bench.written()
        assert await bench.once(), bench.reconciliation.obstacle
        if bench.written() == []:
            return
    raise AssertionError("it never ends")


def running(bench: Bench) -> set[str]:
    """What some node is told to hold."""
    return {
        router["name"]
        for speaker in bench.fake.all("speakerconfigs")
        for router in speaker["spec"].get("virtualRouters", ())
    }


def ingress(bench: Bench) -> list[dict[str, str]]:
    found = bench.fake.get("services", WEB)
    return found.get("status", {}).get("loadBalancer", {}).get("ingress", [])


def conditions(bench: Bench) -> dict[str, str]:
    found = bench.fake.get("services", WEB).get("status", {}).get("conditions", [])
    return {one["type"]: one["status"] for one in found}


def test_a_service_gets_its_finalizer_its_virtual_ip_and_a_holder_in_one_pass():
    async def scene(bench):
        await settle(bench)
        put_service(bench.fake, WEB)
        assert await bench.once()
        verbs = bench.written()
        assert verbs[:2] == [("PATCH", f"{SERVICE}/status"), ("POST", VIRTUAL_IPS)]
        assert sorted(verbs[2:4]) == [("PATCH", f"{SPEAKER}/n1"), ("PATCH", f"{SPEAKER}/n2")]
        assert verbs[4:] == [("PATCH", f"{SERVICE}/status")]
        assert has_finalizer(bench.fake, WEB)
        assert bench.fake.get("virtualips", WEB)["metadata"]["labels"] == LABELS
        assert running(bench) == {WEB}
        assert (ingress(bench), conditions(bench)) == ([], {"holdfast.dev/Known": "False"})

    play(scene)


def test_the_address_is_told_with_the_mode_vip_once_it_is_held_and_before_words():
    async def scene(bench):
        await settle(bench)
        put_service(bench.fake, WEB)
        await until_nothing_is_written(bench)
        tell_master(bench.fake, WEB, "n1")
        assert await bench.once()
        assert ingress(bench) == [{"ip": "10.0.0.50", "ipMode": "VIP"}]
        assert conditions(bench) == {"holdfast.dev/Known": "True"}
        paths = [path for _, path in bench.written() if "speakerconfigs" not in path and "events" not in path]
        assert paths == [f"{SERVICE}/status", f"{VIRTUAL_IPS}/web/status"]
        assert await bench.once()
        assert bench.written() == []

    play(scene)


def test_nothing_is_written_when_nothing_has_changed():
    async def scene(bench):
        await settle_with_service(bench)
        for _ in range(3):
            assert await bench.once()
        assert bench.written() == []
        told = bench.fake.get("services", WEB)["status"]["conditions"]
        assert [one["lastTransitionTime"] for one in told] == ["2026-01-01T00:00:00Z"], "Kubernetes keeps whole seconds"

    play(scene)


def test_a_service_that_is_deleted_is_gone_after_what_it_was_given():
    async def scene(bench):
        await settle_with_service(bench)
        bench.fake.begin_to_remove("services", WEB)
        assert await bench.once()
        assert running(bench) == set()
        assert bench.fake.get("virtualips", WEB) is None
        assert has_finalizer(bench.fake, WEB), "it goes with the next look: then nothing of it is there"
        verbs = bench.written()
        assert verbs[-1] == ("DELETE", f"{VIRTUAL_IPS}/web")
        assert await bench.once()
        assert bench.fake.get("services", WEB) is None

    play(scene)


def test_a_service_that_is_no_load_balancer_any_more_keeps_nothing_of_it():
    async def scene(bench):
        await settle_with_service(bench)
        put_service(bench.fake, WEB, kind="ClusterIP")
        await until_nothing_is_written(bench)
        assert bench.fake.get("virtualips", WEB) is None
        assert running(bench) == set()
        assert not has_finalizer(bench.fake, WEB)
        assert (ingress(bench), conditions(bench)) == ([], {})

    play(scene)


def begins(bench):
    put_service(bench.fake, WEB)


def changes(bench):
    put_service(bench.fake, WEB, address="10.0.0.51")


def is_deleted(bench):
    bench.fake.begin_to_remove("services", WEB)


def is_inside(bench):
    put_service(bench.fake, WEB, kind="ClusterIP")


@pytest.mark.parametrize("writes", range(9))
@pytest.mark.parametrize(
    ("before", "happens"),
    [
        (settle, begins),
        (settle_with_service, changes),
        (settle_with_service, is_deleted),
        (settle_with_service, is_inside),
    ],
)
def test_whoever_dies_between_any_two_writes_leaves_nothing_that_the_next_does_not_find(before, happens, writes):
    async def scene(bench):
        await before(bench)
        happens(bench)
        left = writes

        def may_write():
            nonlocal left
            left -= 1
            return left >= 0

        bench.writer._may_write = may_write
        try:
            for _ in range(5):
                await bench.once()
        except NotLeader:
            there = bench.fake.get("virtualips", WEB) is not None
            assert running(bench) <= ({WEB} if there else set()), "no node is told to hold what is not there"
            assert not there or has_finalizer(bench.fake, WEB), "what was given outlives no Service"
            assert not ingress(bench) or there if bench.fake.get("services", WEB) else True
        bench.writer._may_write = lambda: True
        for _ in range(4):  # another leader, which has only what the API server has
            await bench.once()
        if bench.fake.get("virtualips", WEB):
            tell_master(bench.fake, WEB, "n1")
            await bench.once()
            await bench.once()
        bench.fake.requests.clear()
        assert await bench.once()
        assert bench.written() == []
        service = bench.fake.get("services", WEB)
        if happens in (begins, changes):
            address = "10.0.0.50" if happens is begins else "10.0.0.51"
            assert bench.fake.get("virtualips", WEB)["spec"]["addresses"] == [address]
            assert (running(bench), ingress(bench)) == ({WEB}, [{"ip": address, "ipMode": "VIP"}])
            assert has_finalizer(bench.fake, WEB)
        else:
            assert (service is None) == (happens is is_deleted)
            assert (running(bench), bench.fake.get("virtualips", WEB)) == (set(), None)
            assert not has_finalizer(bench.fake, WEB)

    play(scene)


@pytest.mark.parametrize("status", [403, 422, 500])
def test_nobody_holds_what_cannot_be_made_and_all_others_get_theirs(status):
    async def scene(bench):
        await settle(bench)
        put_service(bench.fake, WEB)
        put_service(bench.fake, "blog/web", address="10.0.0.60")
        fault = bench.fake.fail("POST", VIRTUAL_IPS, status=status)
        assert not await bench.once()
        assert bench.reconciliation.obstacle == "1 objects cannot be written: virtualips/shop/web"
        assert running(bench) == {"blog/web"}
        assert conditions(bench) == {}, "it has not what its status would say"
        bench.fake.faults.remove(fault)
        assert await bench.once()
        assert running(bench) == {WEB, "blog/web"}

    play(scene)


def test_nothing_is_given_to_a_service_that_cannot_have_the_finalizer():
    async def scene(bench):
        await settle(bench)
        put_service(bench.fake, WEB)
        fault = bench.fake.fail("PATCH", f"{SERVICE}/status", status=403)
        assert not await bench.once()
        assert bench.written() == []
        assert running(bench) == set()
        bench.fake.faults.remove(fault)
        assert await bench.once()
        assert running(bench) == {WEB}

    play(scene)


def test_a_service_that_vanishes_meanwhile_is_no_failure_and_nothing_is_made_for_it():
    async def scene(bench):
        await settle(bench)
        put_service(bench.fake, WEB)

        def plan(view, now):
            if bench.fake.get("services", WEB):
                bench.fake.remove("services", WEB)
            return service_plan(view, now)

        bench.plan = plan
        assert await bench.once()
        assert bench.written() == []
        assert running(bench) == set()

    play(scene)


def test_a_service_that_is_made_anew_meanwhile_is_not_taken_for_the_former_one():
    async def scene(bench):
        await settle_with_service(bench)
        put_service(bench.fake, WEB, kind="ClusterIP")
        await bench.once()

        def plan(view, now):
            found = service_plan(view, now)
            bench.fake.remove("services", WEB)
            made = put_service(bench.fake, WEB, kind="ClusterIP")
            made["metadata"]["finalizers"] = ["service.kubernetes.io/load-balancer-cleanup"]
            bench.fake.put("services", made)
            return found

        bench.plan = plan
        await bench.once()
        assert has_finalizer(bench.fake, WEB), "another one's"

    play(scene)


def test_a_users_virtual_ip_that_comes_meanwhile_is_not_overwritten():
    async def scene(bench):
        await settle(bench)
        put_service(bench.fake, WEB)

        def plan(view, now):
            if bench.fake.get("virtualips", WEB) is None:
                put_virtual_ip(bench.fake, WEB, "10.0.0.9")
            return service_plan(view, now)

        bench.plan = plan
        assert not await bench.once()
        assert running(bench) == set()
        assert await bench.once()
        assert bench.fake.get("virtualips", WEB)["spec"] == {"addresses": ["10.0.0.9"]}
        assert "labels" not in bench.fake.get("virtualips", WEB)["metadata"]

    play(scene)


def test_a_users_virtual_ip_of_that_name_is_not_deleted_in_the_place_of_ours():
    async def scene(bench):
        await settle_with_service(bench)
        bench.fake.begin_to_remove("services", WEB)

        def plan(view, now):
            found = service_plan(view, now)
            bench.fake.remove("virtualips", WEB)
            put_virtual_ip(bench.fake, WEB, "10.0.0.9")
            return found

        bench.plan = plan
        assert await bench.once()
        assert bench.fake.get("virtualips", WEB)["spec"] == {"addresses": ["10.0.0.9"]}

    play(scene)


def test_a_virtual_ip_that_a_user_deletes_is_made_anew_with_the_same_address():
    async def scene(bench):
        await settle_with_service(bench)
        uid = bench.fake.get("virtualips", WEB)["metadata"]["uid"]
        bench.fake.remove("virtualips", WEB)
        assert await bench.once()
        made = bench.fake.get("virtualips", WEB)
        assert made["metadata"]["uid"] != uid
        assert made["spec"]["addresses"] == ["10.0.0.50"]
        assert running(bench) == {WEB}

    play(scene)


def test_one_that_a_user_deletes_and_that_has_a_finalizer_is_waited_for():
    async def scene(bench):
        await settle_with_service(bench)
        found = bench.fake.get("virtualips", WEB)
        found["metadata"]["finalizers"] = ["example.com/x"]
        bench.fake.put("virtualips", found)
        bench.fake.begin_to_remove("virtualips", WEB)
        found = bench.fake.get("virtualips", WEB)
        found["spec"]["priority"] = 200
        bench.fake.put("virtualips", found)
        bench.written()
        assert await bench.once()
        assert [path for _, path in bench.written() if path.startswith(VIRTUAL_IPS)] == []

    play(scene)


def edits():
    def spec(found):
        found["spec"]["priority"] = 200

    def another_address(found):
        found["spec"]["addresses"] = ["10.0.0.99"]

    def one_more_address(found):
        found["spec"]["addresses"].append("10.0.0.99")

    def no_address(found):
        del found["spec"]["addresses"]

    def nonsense(found):
        found["spec"]["track"] = {"probes": "many"}

    def owners(found):
        one = {"apiVersion": "v1", "kind": "Service", "name": "other", "uid": "1"}
        found["metadata"]["ownerReferences"] = [one, {**one, "uid": "2"}]

    def annotation(found):
        found["metadata"]["annotations"] = {"holdfast.dev/sharing-key": "mine", "a": "b"}

    return [spec, another_address, one_more_address, no_address, nonsense, owners, annotation]


@pytest.mark.parametrize("edit", edits())
def test_an_edit_of_a_services_virtual_ip_is_undone(edit):
    async def scene(bench):
        await settle_with_service(bench)
        before = bench.fake.get("virtualips", WEB)
        found = bench.fake.get("virtualips", WEB)
        edit(found)
        bench.fake.put("virtualips", found)
        assert await bench.once()
        after = bench.fake.get("virtualips", WEB)
        assert after["spec"]["addresses"] == ["10.0.0.50"]
        assert after["spec"].get("priority", 100) == 100
        assert "track" not in after["spec"]
        assert after["metadata"]["ownerReferences"] == before["metadata"]["ownerReferences"]
        assert after["metadata"].get("annotations", {}).keys() <= {"a"}, "what is nobody's business stays"
        bench.written()
        assert await bench.once()
        assert bench.written() == []

    play(scene)


def test_what_the_api_server_fills_in_and_what_others_add_is_no_edit():
    async def scene(bench):
        await settle_with_service(bench)
        found = bench.fake.get("virtualips", WEB)
        found["spec"] |= {"priority": 100, "version": 3}
        found["metadata"]["labels"] = {"team": "shop", **found["metadata"]["labels"]}
        owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "1"}
        found["metadata"]["ownerReferences"].append(owner)
        bench.fake.put("virtualips", found)
        bench.written()
        assert await bench.once()
        assert bench.written() == []

    play(scene)


def test_what_others_say_of_a_service_stays():
    async def scene(bench):
        await settle(bench)
        put_service(bench.fake, WEB)
        bench.fake.set_status("services", WEB, {"conditions": [OTHERS]}, manager="somebody")
        await until_nothing_is_written(bench)
        assert conditions(bench) == {"holdfast.dev/Known": "False", "example.com/Known": "True"}
        put_service(bench.fake, WEB, kind="ClusterIP")
        await until_nothing_is_written(bench)
        assert conditions(bench) == {"example.com/Known": "True"}

    play(scene)


def test_the_address_that_another_controller_gave_stays_where_the_service_is_its():
    async def scene(bench):
        await settle(bench)
        other = {"loadBalancer": {"ingress": [{"ip": "10.0.0.7"}]}}
        put_service(bench.fake, WEB)

        def plan(view, now):
            return dataclasses.replace(service_plan(dataclasses.replace(view, services=()), now), services={})

        bench.plan = plan
        bench.fake.set_status("services", WEB, other, manager="other-controller")
        await until_nothing_is_written(bench)
        assert bench.fake.get("services", WEB)["status"] == other

    play(scene)


def test_the_address_of_a_controller_that_had_the_service_before_goes():
    async def scene(bench):
        await settle(bench)
        put_service(bench.fake, WEB)
        other = {"loadBalancer": {"ingress": [{"ip": "10.0.0.7"}]}}
        bench.fake.set_status("services", WEB, other, manager="former-controller")
        await until_nothing_is_written(bench)
        assert ingress(bench) == []

    play(scene)


def test_the_finalizer_stays_as_long_as_the_virtual_ip_cannot_be_deleted():
    async def scene(bench):
        await settle_with_service(bench)

        def plan(view, now):
            """One that would let go of the Service in the same pass."""
            found = service_plan(view, now)
            return dataclasses.replace(
                found, services={key: dataclasses.replace(one, is_ours=False) for key, one in found.services.items()}
            )

        bench.plan = plan
        put_service(bench.fake, WEB, kind="ClusterIP")
        fault = bench.fake.fail("DELETE", VIRTUAL_IPS, status=403)
        assert not await bench.once()
        assert has_finalizer(bench.fake, WEB)
        assert running(bench) == set()
        bench.fake.faults.remove(fault)
        assert await bench.once()
        assert not has_finalizer(bench.fake, WEB)

    play(scene)


def test_a_status_that_cannot_be_written_is_told_and_tried_again_and_holds_up_nothing():
    async def scene(bench):
        await settle(bench)
        for name in ("web", "mail"):
            put_service(bench.fake, f"shop/{name}")
        await until_nothing_is_written(bench)
        for name in ("web", "mail"):
            tell_master(bench.fake, f"shop/{name}", "n1")
        fault = bench.fake.fail("PATCH", f"{SERVICE}/status", status=403)
        assert not await bench.once()
        assert bench.reconciliation.obstacle == "1 objects cannot be written: services/shop/web"
        assert bench.fake.get("services", "shop/mail")["status"]["loadBalancer"]["ingress"]
        assert bench.reconciliation.look_again_seconds() is not None
        bench.fake.faults.remove(fault)
        assert await bench.once()
        assert ingress(bench)

    play(scene)


def test_what_is_told_of_a_service_is_told_about_the_service_and_once():
    async def scene(bench):
        await settle_with_service(bench)
        (event,) = (one for one in bench.fake.all("events") if one["reason"] == "AddressTold")
        uid = bench.fake.get("services", WEB)["metadata"]["uid"]
        assert event["regarding"] == {
            "apiVersion": "v1",
            "kind": "Service",
            "namespace": "shop",
            "name": "web",
            "uid": uid,
        }
        assert event["note"] == "it has 10.0.0.50"

    play(scene)


def test_services_that_are_none_of_ours_leave_what_was_made_for_them():
    async def scene(bench):
        await settle_with_service(bench)
        fault = bench.fake.fail("GET", "/api/v1/services", status=403)
        assert await bench.once()
        assert bench.written() == []
        assert running(bench) == {WEB}
        bench.fake.faults.remove(fault)
        assert await bench.once()
        assert bench.written() == []

    play(scene)


def test_the_plan_that_is_made_without_a_service_is_made_of_what_is_there():
    """What is to be told of all others is told by the first plan."""

    async def scene(bench):
        await settle_with_service(bench)
        put_service(bench.fake, "shop/late")
        seen = []

        def plan(view, now):
            seen.append(sorted(one["metadata"]["name"] for one in view.services))
            return service_plan(view, now)

        bench.plan = plan
        bench.fake.fail("POST", VIRTUAL_IPS, status=403)
        assert not await bench.once()
        assert seen == [["late", "web"], ["web"]]
        told = {
            sample.labels["service"]: sample.value
            for metric in bench.metrics.registry.collect()
            for sample in metric.samples
            if sample.name == "holdfast_operator_service_addresses"
        }
        assert told == {WEB: 1, "shop/late": 0}

    play(scene)


def test_a_virtual_ip_owned_by_several_services_waits_for_the_finalizer_of_each():
    async def scene(bench):
        await settle_with_service(bench)
        put_service(bench.fake, "shop/too", kind="LoadBalancer")

        def plan(view, now):
            found = service_plan(view, now)
            services = {one["metadata"]["name"]: one for one in view.services}
            shared = virtual_ip_of(services["web"])
            shared["metadata"]["ownerReferences"] += virtual_ip_of(services["too"])["metadata"]["ownerReferences"]
            return dataclasses.replace(found, virtual_ips={WEB: shared})

        bench.plan = plan
        fault = bench.fake.fail("PATCH", "/services/too/status", status=403)
        await bench.once()
        assert len(bench.fake.get("virtualips", WEB)["metadata"]["ownerReferences"]) == 1
        bench.fake.faults.remove(fault)
        await bench.once()
        assert len(bench.fake.get("virtualips", WEB)["metadata"]["ownerReferences"]) == 2

    play(scene)
