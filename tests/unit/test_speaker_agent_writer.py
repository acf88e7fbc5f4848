from __future__ import annotations

import asyncio

from holdfast_kube.api_server import APIFailure
from holdfast_speaker.agent.ledger import Ledger
from holdfast_speaker.agent.writer import AT_ONCE, POSTPONED_AT_MOST, Writer, own_entry, virtual_ip_form
from holdfast_testing.agent_fixtures import NODE, until

ENTRY = {"nodeName": NODE, "state": "Master"}


class API:
    """Applies, and says how many requests were under way at once."""

    def __init__(self):
        self.applied = []
        self.failures = []
        self.under_way = self.most = 0

    async def apply(self, path, body, field_manager):
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.failures:
            raise self.failures.pop(0)
        self.applied.append((path, body, field_manager))
        return {"metadata": {"resourceVersion": "9"}, "status": body["status"]}


def case(*names):
    api = API()
    ledger = Ledger((), asyncio.get_running_loop().time)
    for name in names:
        ledger.see(name, "1", None)
        ledger.want(name, ENTRY)
    return api, ledger, Writer(api, NODE, ledger, virtual_ip_form(NODE))


def play(scene):
    asyncio.run(scene())


def test_an_entry_is_applied_alone_by_the_nodes_own_manager():
    async def scene():
        api, ledger, writer = case("shop/web")
        assert await writer.write_all()
        assert api.applied == [
            (
                "/apis/holdfast.dev/v1alpha1/namespaces/shop/virtualips/web/status",
                {
                    "apiVersion": "holdfast.dev/v1alpha1",
                    "kind": "VirtualIP",
                    "metadata": {"namespace": "shop", "name": "web"},
                    "status": {"nodes": [ENTRY]},
                },
                f"holdfast-agent-{NODE}",
            )
        ]
        assert ledger.due() == []

    play(scene)


def test_a_removed_entry_is_applied_as_nothing():
    async def scene():
        api, ledger, writer = case("shop/web")
        ledger.see("shop/web", "2", ENTRY)
        ledger.want("shop/web", None)
        await writer.write_all()
        assert api.applied[0][1]["status"] == {"nodes": []}

    play(scene)


def test_a_thousand_entries_are_written_a_few_at_a_time():
    async def scene():
        api, _, writer = case(*(f"shop/web-{number}" for number in range(1000)))
        assert await writer.write_all()
        assert len(api.applied) == 1000
        assert api.most == AT_ONCE

    play(scene)


def test_a_failure_ends_the_pass_and_loses_nothing():
    async def scene():
        api, ledger, writer = case(*(f"shop/web-{number}" for number in range(100)))
        api.failures = [APIFailure("away")]
        assert not await writer.write_all()
        assert len(api.applied) < AT_ONCE
        assert await writer.write_all()
        assert len(api.applied) == 100
        assert ledger.due() == []

    play(scene)


def test_an_object_that_is_gone_is_no_failure():
    async def scene():
        api, ledger, writer = case("shop/web", "shop/db")
        api.failures = [APIFailure("not found", 404)]
        assert await writer.write_all()
        assert len(api.applied) == 1
        assert ledger.due() == []
        assert writer.results == {"gone": 1, "applied": 1}

    play(scene)


def test_what_is_refused_for_good_does_not_hold_up_the_others():
    async def scene():
        api, ledger, writer = case("shop/web", "shop/db")
        api.failures = [APIFailure("status.nodes[0].priority: invalid", 422)]
        assert await writer.write_all()
        assert len(api.applied) == 1
        assert ledger.due() == []
        assert writer.results == {"refused": 1, "applied": 1}

    play(scene)


def test_what_one_virtual_ip_forbids_does_not_hold_up_the_others():
    async def scene():
        api, ledger, writer = case("shop/hostile", *(f"shop/web-{number}" for number in range(100)))
        api.failures = [APIFailure("admission policy of the namespace", 403)]
        assert await writer.write_all()
        assert len(api.applied) == 100
        assert ledger.due() == []
        assert ledger.next_due() is not None

    play(scene)


def test_where_every_write_is_forbidden_not_every_one_is_tried():
    async def scene():
        api, ledger, writer = case(*(f"shop/web-{number}" for number in range(100)))
        api.failures = [APIFailure("no such role", 403) for _ in range(100)]
        assert not await writer.write_all()
        assert len(api.failures) >= 100 - POSTPONED_AT_MOST - AT_ONCE
        assert api.applied == []
        assert len(ledger.due()) >= 100 - POSTPONED_AT_MOST - AT_ONCE

    play(scene)


def test_the_writer_tries_again_until_the_api_server_takes_it():
    async def scene():
        api, _, writer = case("shop/web")
        api.failures = [APIFailure("away"), APIFailure("busy", 429), APIFailure("who are you", 401)]
        running = asyncio.create_task(writer.run())
        await until(lambda: len(api.failures) < 3)
        writer.hurry()
        await until(lambda: api.applied)
        running.cancel()

    play(scene)


def test_the_entry_of_the_node_is_found_among_the_others():
    assert own_entry([{"nodeName": "n2"}, ENTRY], NODE) is ENTRY
    assert own_entry([{"nodeName": "n2"}], NODE) is None
    assert own_entry(None, NODE) is None
