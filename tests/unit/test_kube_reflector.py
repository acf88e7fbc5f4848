from __future__ import annotations

import asyncio
import copy

from kubernetes.aio.client import Configuration

from holdfast_kube import reflector
from holdfast_kube.api_server import APIServer, Patience
from holdfast_kube.back_off import BackOff
from holdfast_kube.objects import is_newer
from holdfast_kube.reachability import Reachability
from holdfast_kube.reflector import Reflector
from holdfast_speaker.agent.objects import Pod
from holdfast_speaker.agent.pods import PodStore
from holdfast_testing.agent_fixtures import NODE, PODS, FakeAPI, pod, until


class Case:
    """A reflector of one node's pods."""

    def __init__(self, fake):
        self.fake = fake
        self.store = PodStore(lambda: None)
        self.unknown = 0
        self.returns = 0
        self.now = 1000.0
        self.reachability = Reachability(lambda: self.now, self._returned)

    def _returned(self):
        self.returns += 1

    def _unknown(self):
        self.unknown += 1

    @property
    def names(self):
        return sorted(one.metadata.name for one in self.store.of("shop"))

    def lists(self):
        return sum(path == PODS for _, path in self.fake.requests)

    async def start(self):
        configuration = Configuration(host=f"http://127.0.0.1:{self.fake.port}")
        self.api = APIServer(configuration, "agent", Patience(connect=5, request=15, list=60))
        watching = Reflector(
            self.api,
            PODS,
            Pod,
            self.store,
            self.reachability,
            resource="pods",
            query={"fieldSelector": f"spec.nodeName={NODE}"},
            unknown=self._unknown,
        )
        self.task = asyncio.create_task(watching.run())

    async def end(self):
        self.task.cancel()
        await asyncio.wait({self.task})
        await self.api.close()


def play(scene):
    async def run():
        fake = FakeAPI()
        await fake.start()
        case = Case(fake)
        await case.start()
        try:
            await scene(case, fake)
        finally:
            await case.end()
            await fake.stop()

    asyncio.run(run())


def test_the_store_follows_what_happens():
    async def scene(case, fake):
        await until(lambda: fake.watches(PODS))
        fake.put(PODS, pod("web-1"))
        fake.put(PODS, pod("web-2"))
        fake.put(PODS, {**pod("elsewhere"), "spec": {"nodeName": "n2"}})
        await until(lambda: case.names == ["web-1", "web-2"])
        fake.delete(PODS, "web-1", "shop")
        await until(lambda: case.names == ["web-2"])

    play(scene)


def test_after_its_time_a_watch_goes_on_where_it_was_without_a_list(monkeypatch):
    monkeypatch.setattr(reflector, "_WATCH_SECONDS", (0, 0))  # the fake one does not look at that

    async def scene(case, fake):
        fake.put(PODS, pod("web-1"))
        await until(lambda: case.names == ["web-1"])
        await until(lambda: fake.watches(PODS))
        before = case.lists()
        fake.end_watches()
        fake.put(PODS, pod("web-2"))
        await until(lambda: case.names == ["web-1", "web-2"])
        assert case.lists() == before + 1
        assert case.reachability.is_reachable

    play(scene)


def test_an_error_in_the_watch_leads_to_a_list():
    async def scene(case, fake):
        fake.put(PODS, pod("web-1"))
        await until(lambda: case.names == ["web-1"] and fake.watches(PODS))
        for code in (410, 500):
            fake.refuse(PODS, 503)
            fake.break_watches(code)
            fake.objects[PODS].clear()  # nobody is told
            fake.put(PODS, pod(f"web-{code}"))
            fake._log.clear()
            fake.refuse(PODS, 0)
            await until(lambda code=code: case.names == [f"web-{code}"] and fake.watches(PODS))

    play(scene)


def test_a_bookmark_is_word_of_the_api_server():
    async def scene(case, fake):
        await until(lambda: fake.watches(PODS))
        case.now += 55.0
        assert case.reachability.staleness_seconds() == {"pods": 55.0}
        fake.bookmark()
        await until(lambda: case.reachability.staleness_seconds() == {"pods": 0.0})

    play(scene)


def test_an_api_server_that_is_away_is_awaited_and_its_absence_told():
    async def scene(case, fake):
        fake.put(PODS, pod("web-1"))
        await until(lambda: case.names == ["web-1"])
        await fake.stop()
        await until(lambda: not case.reachability.is_reachable)
        assert case.names == ["web-1"]
        case.now += 30.0
        await fake.start()
        await until(lambda: case.reachability.is_reachable and case.reachability.is_heard("pods"))
        assert case.reachability.last_outage.ended - case.reachability.last_outage.began == 30.0
        assert case.returns == 1

    play(scene)


def test_an_api_server_that_is_back_and_lost_the_watchs_place_is_asked_at_once(monkeypatch):
    failures = []

    def no_pause(back_off):
        failures.append(back_off.failures)
        return 0.0

    async def scene(case, fake):
        await until(lambda: fake.watches(PODS))
        fake.refuse(PODS, 503)
        fake.end_watches()
        await until(lambda: failures and failures[-1] > 5)
        fake.refuse(PODS, 0)
        await until(lambda: fake.watches(PODS))
        for wanted in (0, 1, 2):  # one that loses what it has just listed is not hurried
            told = len(failures)
            fake.break_watches(410)
            await until(lambda told=told: len(failures) > told and fake.watches(PODS))
            assert failures[-1] == wanted

    monkeypatch.setattr(BackOff, "pause", no_pause)
    play(scene)


def test_a_refusal_is_no_absence():
    async def scene(case, fake):
        fake.put(PODS, pod("web-1"))
        await until(lambda: case.names == ["web-1"] and fake.watches(PODS))
        fake.refuse(PODS, 403)
        fake.end_watches()
        await until(lambda: not case.reachability.is_heard("pods"))
        assert case.reachability.is_reachable
        assert case.names == ["web-1"]
        fake.refuse(PODS, 0)
        await until(lambda: case.reachability.is_heard("pods"))
        assert case.reachability.last_outage is None

    play(scene)


def test_a_resource_that_is_not_known_is_told_and_nothing_is_forgotten():
    async def scene(case, fake):
        fake.put(PODS, pod("web-1"))
        await until(lambda: case.names == ["web-1"] and fake.watches(PODS))
        fake.refuse(PODS, 404)
        fake.end_watches()
        await until(lambda: case.unknown)
        assert case.names == ["web-1"]

    play(scene)


def test_resource_versions_are_compared_as_numbers_where_they_are_some():
    assert is_newer("1000", "999")
    assert not is_newer("999", "1000")
    assert is_newer("b", "a")
    assert not is_newer("a", "a")


def test_after_a_backup_was_restored_the_list_is_believed_and_the_watch_hears_again():
    async def scene(case, fake):
        fake.put(PODS, pod("web-1"))
        await until(lambda: case.names == ["web-1"] and fake.watches(PODS))
        backup, version = copy.deepcopy(fake.objects), fake._version
        for number in range(2, 9):
            fake.put(PODS, pod(f"web-{number}"))
        await until(lambda: len(case.names) == 8)
        await fake.stop()
        fake.restore(backup, version)
        await fake.start()
        await until(lambda: case.names == ["web-1"])
        await until(lambda: fake.watches(PODS))
        fake.put(PODS, pod("new"))
        await until(lambda: case.names == ["new", "web-1"])

    play(scene)


def test_a_watch_whose_versions_go_back_leads_to_a_list():
    async def scene(case, fake):
        fake.put(PODS, pod("web-1"))
        await until(lambda: case.names == ["web-1"] and fake.watches(PODS))
        fake.restore({**fake.objects, PODS: {}}, 50)
        fake.put(PODS, pod("web-2"))
        await until(lambda: case.names == ["web-2"])

    play(scene)
