"""A new virtual router that nobody is known to hold: who was chosen holds it first, and never beside a holder."""

from __future__ import annotations

import itertools
from random import Random

import pytest

from holdfast_api.reasons import Health
from holdfast_api.resources import ForeignRouters
from holdfast_api.speaker import VirtualRouterConfiguration
from holdfast_testing.engine_lan import Lan, SimulatedHost, router

MEMBERS = ["10.9.0.1", "10.9.0.2", "10.9.0.3", "10.9.0.4"]


def vip(priority: int, name: str = "web", **fields: object) -> VirtualRouterConfiguration:
    return router(name, priority=priority, members=MEMBERS, foreign_routers=ForeignRouters.REFUSE, **fields)


def tell(host: SimulatedHost, nominee: str, *routers: VirtualRouterConfiguration) -> None:
    """What an agent does with a SpeakerConfig."""
    host.running.expect_first_holds({one.name: nominee for one in routers})
    host.configure(*routers)


def idle(*names: str) -> Lan:
    """Engines that have listened for a while and run nothing."""
    lan = Lan(*names)
    for host in lan.hosts:
        host.start()
    lan.run(2)
    return lan


def test_the_nominee_holds_after_an_interval_however_low_its_priority() -> None:
    lan = idle("one", "two", "three")
    for host, priority in zip(lan.hosts, (90, 200, 100), strict=True):
        tell(host, "one", vip(priority))
    assert lan.until(lambda: lan.holders() == ["one"]) <= 0.11
    lan.run(5)
    assert lan.holders() == ["one"]


def test_among_others_that_nobody_told_of_a_nominee_it_is_first_come_first_held() -> None:
    lan = idle("one", "two")
    lan.hosts[0].configure(vip(90))
    lan.hosts[1].configure(vip(200))
    lan.run(3)
    assert lan.holders() == ["two"]


def test_a_nominee_that_does_not_come_is_replaced_as_where_nobody_was_heard() -> None:
    lan = idle("one", "two", "three")
    lan.hosts[0].die()
    for host, priority in zip(lan.hosts[1:], (90, 100), strict=True):
        tell(host, "one", vip(priority))
    assert 1.0 <= lan.until(lambda: lan.holders() == ["three"]) <= 1.1


def test_a_nominee_whose_health_is_told_late_holds_as_soon_as_it_is_told() -> None:
    lan = idle("one", "two")
    for host in lan.hosts:
        tell(host, "one", vip(100, tracks_services=True))
    lan.run(0.4)
    assert lan.holders() == []
    for host in lan.hosts:
        host.running.report_health("default/web", Health.HEALTHY, "", lan.clock.now())
    assert lan.until(lambda: lan.holders() == ["one"]) <= 0.1


def test_a_nominee_that_fails_leaves_it_to_who_is_healthy() -> None:
    lan = idle("one", "two")
    for host in lan.hosts:
        tell(host, "one", vip(100, tracks_services=True))
    lan.hosts[1].running.report_health("default/web", Health.HEALTHY, "", lan.clock.now())
    lan.run(0.5)
    assert lan.holders() == []
    lan.run(0.8)
    assert lan.holders() == ["two"]


def test_a_configuration_of_another_time_has_no_nominee() -> None:
    lan = idle("one", "two")
    lan.hosts[0].running.expect_first_holds({"default/web": "one"})
    lan.hosts[0].configure()
    for host, priority in zip(lan.hosts, (90, 200), strict=True):
        host.configure(vip(priority))
    lan.run(3)
    assert lan.holders() == ["two"]


@pytest.mark.parametrize("has_a_copy", [True, False], ids=["with its copy of the configuration", "without any"])
def test_an_engine_that_starts_anew_is_no_nominee_again(has_a_copy: bool) -> None:
    lan = idle("one", "two")
    for host in lan.hosts:
        tell(host, "one", vip(100))
    lan.run(3)
    for host in lan.hosts:
        host.die()
    lan.run(3)
    lan.hosts[0].start(*[vip(100)][: int(has_a_copy)])
    tell(lan.hosts[0], "one", vip(100))
    lan.run(0.3)
    assert lan.holders() == []
    lan.run(1)
    assert lan.holders() == ["one"]


@pytest.mark.parametrize("seed", range(16))
def test_whatever_the_nominee_and_whenever_they_are_told_one_holds_it_and_nobody_loses_what_he_held(seed: int) -> None:
    """Hosts that die, configurations that come in any order and late, and a holder that the planner did not know of."""
    random = Random(seed)
    names = ("one", "two", "three", "four")[: random.randint(2, 4)]
    lan = idle(*names)
    interval = random.choice([10, 100, 300])
    priorities = random.sample(range(55, 250, 5), len(names))
    nominee = random.choice(names)
    configured = {
        name: vip(priority, advertisement_interval_milliseconds=interval)
        for name, priority in zip(names, priorities, strict=True)
    }
    incumbent = random.choice([None, *lan.hosts])
    if incumbent is not None:
        incumbent.configure(configured[incumbent.name])
        lan.run(4)
        assert lan.holders() == [incumbent.name]
    others = [host for host in lan.hosts if host is not incumbent]
    dead = random.choice([None, None, *others]) if len(others) > 1 else None
    if dead is not None:
        dead.die()
    random.shuffle(others)
    for host in others:
        if host is not dead:
            tell(host, nominee, configured[host.name])
            lan.run(random.choice([0, 0.001, 0.05, 0.3]))
    for _ in itertools.repeat(None, 250):
        lan.run(0.01)
        assert len(lan.holders()) <= 1
        assert incumbent is None or lan.holders() == [incumbent.name]
    alive = [host.name for host in others if host is not dead]
    if incumbent is None and nominee in alive:
        assert lan.holders() == [nominee]
    assert len(lan.holders()) == 1
