"""What pyroute2 makes of namespaces, links and addresses, beside what ip(8) makes of the words for it."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from holdfast_api.errors import EnvironmentFailure
from holdfast_lab import actions, namespaces, network
from holdfast_lab.actions import AddAddress, AddCable, FlushAddresses, SetState, addresses_of
from holdfast_lab.record import HostRecord
from holdfast_lab.watch import AddressChange, AddressWatch, Overrun
from holdfast_testing.hosts import eventually

pytestmark = pytest.mark.netns

numbers = itertools.count(1)
MAKER = """
import sys
from holdfast_lab import network
print("begun", flush=True)
for number in range(int(sys.argv[2])):
    network.make_namespace(f"{sys.argv[1]}-{number}", is_switch=False)
print("made", flush=True)
"""


def names(prefix):
    return sorted(path.name for path in namespaces.NAMESPACES_FOLDER.glob(f"{prefix}*"))


@pytest.fixture
def prefix():
    """What the names of this test's namespaces begin with; those that are left are removed."""
    made = f"hf-test-lab-{os.getpid()}-{next(numbers)}"
    yield made
    for name in names(made):
        namespaces.remove_namespace(name)


@pytest.fixture
def namespace(prefix):
    network.make_namespace(prefix, is_switch=False)
    return prefix


def hosts(prefix):
    return [
        HostRecord(
            name=name,
            namespace=f"{prefix}-{name}",
            port=f"port{number}",
            mac_address=f"02:68:66:00:00:{number:02x}",
            addresses=[f"10.77.0.{number}/24", f"fd77::{number}/64"],
        )
        for number, name in enumerate(("n1", "n2", "n3", "client"), start=11)
    ]


def make_lab(prefix):
    """A lab's network with something done to each of its hosts; the namespaces."""
    switch, (n1, n2, n3, client) = f"{prefix}-switch", hosts(prefix)
    network.make_namespace(switch, is_switch=True)
    network.make_switch(switch)
    for host in (n1, n2, n3, client):
        network.make_namespace(host.namespace, is_switch=False)
        network.connect(switch, host, "eth0", is_client=host is client)
    network.partition(switch, n1)
    network.unplug(switch, n2)
    network.take_down(n2, "eth0")
    network.cut_link(switch, n3)
    network.partition(switch, n3)
    network.rejoin(switch, n3)
    network.plug_in(switch, n2)
    network.bring_up(n2, "eth0")
    network.join_link(switch, n3)
    return [switch, *(host.namespace for host in (n1, n2, n3, client))]


# What is chosen by chance, counts time, or numbers namespaces in the order in which somebody asked.
BY_CHANCE = {"address", "link_netnsid", "ifindex", "gc_timer", "hello_timer", "topology_change_timer"}
OURS = "02:68:66"
SETTINGS = "cat /proc/sys/net/ipv6/conf/*/accept_dad /proc/sys/net/ipv6/conf/*/accept_ra /proc/sys/net/ipv6/conf/*/dis*"


def steady(shown):
    """What is not left to chance of what ip(8) shows."""
    if isinstance(shown, dict):
        return {
            key: steady(value)
            for key, value in shown.items()
            if (key not in BY_CHANCE or str(value).startswith(OURS)) and not re.search(r"bridge_id|root", key)
        }
    return [steady(value) for value in shown] if isinstance(shown, list) else shown


def seen(namespace):
    """Links, addresses, routes and sysctls of a namespace."""
    addresses, routes = (
        json.loads(subprocess.check_output(["ip", "-n", namespace, "-json", "-details", *words]))
        for words in (["address", "show"], ["-6", "route", "show", "table", "all"])
    )
    read = namespaces.inside(namespace, ["sh", "-c", SETTINGS])
    settings = subprocess.check_output(read, text=True).split()
    return steady(addresses), steady(routes), settings


def settled_view(made):
    """As `seen`, once two looks agree: a link's state follows its switching with some delay."""
    views = []

    def agree():
        views.append({namespace: seen(namespace) for namespace in made})
        return len(views) > 1 and views[-1] == views[-2]

    eventually(agree, "the links have settled")
    return views[-1]


def test_the_words_that_are_told_make_what_was_made(prefix, caplog):
    with caplog.at_level(logging.INFO, logger=actions.words_log.name):
        made = make_lab(prefix)
    words = caplog.messages
    by_pyroute2 = settled_view(made)
    for namespace in made:
        namespaces.remove_namespace(namespace)
    for command in words:
        # As a person types them; the kernel takes the names of links that went before a moment later.
        subprocess.run(["sh", "-c", command], check=True)
    by_ip = settled_view(made)
    assert by_ip == by_pyroute2
    assert by_ip[f"{prefix}-n1"][0][1]["address"] == "02:68:66:00:00:0b"


def test_a_flush_makes_the_bridge_forget_who_is_behind_a_port(prefix):
    switch, (n1, n2, *_) = f"{prefix}-switch", hosts(prefix)
    network.make_namespace(switch, is_switch=True)
    network.make_switch(switch)
    for host in (n1, n2):
        network.make_namespace(host.namespace, is_switch=False)
        network.connect(switch, host, "eth0", is_client=host is n2)
    ping = namespaces.inside(n1.namespace, ["ping", "-n", "-c1", "-W1", "10.77.0.12"])
    assert subprocess.run(ping, capture_output=True, check=False).returncode == 0

    def learned():
        stations = subprocess.check_output(["bridge", "-n", switch, "fdb", "show", "dev", "hosts-down"], text=True)
        return n1.mac_address in stations

    assert learned()
    actions.carry_out(switch, actions.ForgetStations("hosts-down"))
    assert not learned()


def test_a_flush_takes_primary_and_secondary_addresses(namespace):
    given = [f"10.7.0.{number}/24" for number in range(1, 5)]
    actions.carry_out(namespace, *(AddAddress("lo", address) for address in given))
    actions.carry_out(namespace, FlushAddresses("lo", only_global=True))
    assert addresses_of(namespace, "lo") == {"127.0.0.1", "::1"}
    actions.carry_out(namespace, FlushAddresses("lo"))
    assert addresses_of(namespace, "lo") == set()


def test_nothing_forks(namespace, prefix, monkeypatch):
    def fork():
        raise AssertionError("a process with threads was forked")

    monkeypatch.setattr(os, "fork", fork)
    network.make_namespace(f"{prefix}-2", is_switch=True)
    actions.carry_out(namespace, AddCable("a", "b", f"{prefix}-2"), SetState("a", up=True))
    watch = AddressWatch({"n1": namespace})
    watch.close()
    namespaces.remove_namespace(f"{prefix}-2")


def test_no_descriptor_is_left(namespace):
    def opened():
        return sorted(Path("/proc/self/fd").iterdir())

    addresses_of(namespace, "lo")
    before = opened()
    for _ in range(30):
        addresses_of(namespace, "lo")
        AddressWatch({"n1": namespace}).close()
        with pytest.raises(EnvironmentFailure):
            AddressWatch({"n1": namespace, "n2": "nowhere"})
    assert opened() == before


def test_several_processes_make_namespaces_at_once(prefix):
    command = [sys.executable, "-P", "-c", MAKER]
    makers = [
        subprocess.Popen([*command, f"{prefix}-{number}", "10"], stdout=subprocess.DEVNULL) for number in range(4)
    ]
    assert [maker.wait() for maker in makers] == [0, 0, 0, 0]
    assert len(names(prefix)) == 40
    assert all(addresses_of(name, "lo") == {"127.0.0.1", "::1"} for name in names(prefix))


def test_threads_of_one_process_make_namespaces_at_once_and_stay_where_they_were(prefix):
    here = Path("/proc/self/ns/net").readlink()

    def make(number):
        network.make_namespace(f"{prefix}-{number}", is_switch=False)
        return Path("/proc/thread-self/ns/net").readlink()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(make, range(12))) == {here}
    inodes = {namespaces.namespace_path(name).stat().st_ino for name in names(prefix)}
    assert len(inodes) == 12


def test_who_is_interrupted_at_the_keyboard_ends_once_and_has_made_whole_namespaces(prefix):
    for delay_ms in range(0, 40, 4):
        one = f"{prefix}-{delay_ms}"
        command = [sys.executable, "-P", "-c", MAKER, one, "1000"]
        with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, start_new_session=True) as maker:
            maker.stdout.readline()
            time.sleep(delay_ms / 1000)
            os.killpg(maker.pid, signal.SIGINT)
            _, complaints = maker.communicate()
        assert complaints.splitlines().count("KeyboardInterrupt") == 1
        # Nobody goes on with it (a forked child of pyroute2's, interrupted too, would).
        with pytest.raises(ProcessLookupError):
            os.killpg(maker.pid, 0)
        made = names(one)
        # Of the last one the loopback may not be up yet; a file that names no namespace would not be entered.
        assert all(addresses_of(name, "lo") <= {"127.0.0.1", "::1"} for name in made)
        for name in made:
            namespaces.remove_namespace(name)


def test_a_name_that_is_taken_is_told(namespace):
    with pytest.raises(EnvironmentFailure) as refused:
        namespaces.make_namespace(namespace)
    assert str(refused.value) == f"network namespace {namespace} is there already"
    with pytest.raises(
        EnvironmentFailure, match=r"^`ip -n \S+ link add a type veth peer name b` failed: that is there already$"
    ):
        actions.carry_out(namespace, AddCable("a", "b"), AddCable("a", "b"))


def test_a_namespace_that_cannot_be_made_leaves_no_file(prefix, monkeypatch):
    def refuse(path, *_, **__):
        Path(path).touch()
        raise OSError(errno.ENOSPC, "mount failed")

    monkeypatch.setattr(namespaces.netns, "attach", refuse)
    with pytest.raises(
        EnvironmentFailure, match=r"cannot be made: the machine allows no more \(sysctl user\.max_net_name"
    ):
        namespaces.make_namespace(prefix)
    assert names(prefix) == []


def test_a_namespace_or_link_that_is_not_there_is_told(namespace):
    with pytest.raises(
        EnvironmentFailure, match=r"^network namespace nowhere cannot be entered: there is none of that name$"
    ):
        addresses_of("nowhere", "lo")
    with pytest.raises(EnvironmentFailure, match=r"^`ip -n \S+ address show dev eth7` failed: No such device$"):
        addresses_of(namespace, "eth7")
    with pytest.raises(EnvironmentFailure, match=r"^`ip -n \S+ link set eth7 up` failed: No such device$"):
        actions.carry_out(namespace, SetState("eth7", up=True))


@pytest.mark.parametrize(
    ("capability", "complaint"),
    [
        ("sys_admin", "cannot be made: this process lacks the capability CAP_SYS_ADMIN (root in a container?)"),
        ("net_admin", "link set lo up` failed: this process lacks the capability CAP_NET_ADMIN (root in a container?)"),
    ],
)
def test_root_without_a_capability_is_told_which(prefix, capability, complaint):
    script = "import sys; from holdfast_lab import network; network.make_namespace(sys.argv[1], is_switch=False)"
    command = ["setpriv", f"--bounding-set=-{capability}", sys.executable, "-P", "-c", script, prefix]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.stderr.splitlines()[-1].endswith(complaint)


# ----- the watch -----


@pytest.fixture
def watch(namespace):
    """A watch that has told of the addresses that are there at the start."""
    made = AddressWatch({"n1": namespace})
    first = []
    eventually(lambda: first.extend(told(made)) or len(first) == 2, "the first addresses are told")
    assert sorted(first) == [("127.0.0.1", True), ("::1", True)]
    yield made
    made.close()


def change(namespace, what, address, prefix_length=32, **more):
    wanted = {"index": 1, "address": address, "prefixlen": prefix_length, **more}
    namespaces.with_rtnetlink(namespace, lambda kernel: kernel.addr(what, **wanted))


def told(watch):
    return [(news.address, news.present) for news in watch.poll()]


def test_a_change_has_the_time_at_which_it_was_made(namespace, watch):
    for what, present in (("add", True), ("del", False)):
        before = time.monotonic_ns()
        change(namespace, what, "10.9.0.1")
        time.sleep(0.3)  # nobody polls meanwhile
        [news] = watch.poll()
        assert (news.host, news.address, news.present) == ("n1", "10.9.0.1", present)
        assert before < news.at_ns < before + 250_000_000


def test_a_refreshed_lifetime_is_no_change(namespace, watch):
    change(namespace, "add", "10.9.0.1")
    eventually(lambda: ("10.9.0.1", True) in told(watch), "it came")
    change(namespace, "replace", "10.9.0.1", valid_lft=60, preferred_lft=60)
    change(namespace, "add", "10.9.0.2")
    eventually(lambda: watch.poll() and watch.history[-1].address == "10.9.0.2", "the next came")
    assert [news.address for news in watch.history].count("10.9.0.1") == 1


def test_an_address_that_is_there_twice_goes_with_the_last(namespace, watch):
    for what, prefix_length in (("add", 24), ("add", 32), ("del", 24), ("add", 24), ("del", 32)):
        change(namespace, what, "10.9.0.1", prefix_length)
    change(namespace, "add", "10.9.9.9")
    eventually(lambda: watch.poll() and watch.history[-1].address == "10.9.9.9", "all was told")
    assert [news.present for news in watch.history if news.address == "10.9.0.1"] == [True]
    change(namespace, "del", "10.9.0.1", 24)
    assert eventually(lambda: told(watch), "the last went") == [("10.9.0.1", False)]


def test_more_changes_than_can_be_read_are_told_and_then_what_is_there_is_known(namespace, tmp_path):
    """With hardly any room for what is not read yet, some of a burst is lost; the addresses afterwards are not."""
    watch = AddressWatch({"n1": namespace}, receive_bytes=1)
    news = []
    every = [f"10.9.{third}.{fourth}" for third in range(4) for fourth in range(1, 251)]
    batch = tmp_path / "batch"

    def burst(what):
        batch.write_text("".join(f"address {what} {address}/32 dev lo\n" for address in every))
        subprocess.run(["ip", "-n", namespace, "-batch", str(batch)], check=True)
        news.extend(watch.poll())
        return any(isinstance(one, Overrun) for one in news)

    def known():
        news.extend(watch.poll())
        last = {one.address: one.present for one in news if isinstance(one, AddressChange)}
        return {address for address, present in last.items() if present}

    eventually(lambda: burst("replace") or burst("delete"), "some of it was too much")
    burst("replace")
    eventually(lambda: known() == addresses_of(namespace, "lo"), "what is there is known")
    burst("delete")
    eventually(lambda: known() == {"127.0.0.1", "::1"}, "what went is known")
    overruns = [one.at_ns for one in news if isinstance(one, Overrun)]
    assert overruns == sorted(overruns)
    watch.close()


def test_a_host_that_is_not_there_cannot_be_watched(namespace):
    with pytest.raises(EnvironmentFailure, match=r"^network namespace nowhere cannot be entered"):
        AddressWatch({"n1": namespace, "n2": "nowhere"})
