"""A lab's life as a person leads it: by the command `holdfast lab`, on this machine's kernel."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from holdfast_lab import processes
from holdfast_lab.lab import Lab
from holdfast_lab.record import LABS_FOLDER, LabStore, namespace_name
from holdfast_testing.hosts import eventually

pytestmark = pytest.mark.netns

NAMESPACES = Path("/run/netns")
VIP = """
apiVersion: holdfast.dev/v1alpha1
kind: VirtualIP
metadata: {name: web}
spec:
  addresses: [10.77.0.200/24, "fd77::200/64"]
  virtualRouterID: 51
  advertisementIntervalMilliseconds: 100
  track:
    probes: [{name: web, tcpSocket: {port: 8080}, periodMilliseconds: 100, failureThreshold: 1}]
"""
UNTRACKED = VIP.partition("  track:")[0]

numbers = itertools.count(1)


def holdfast(*words, **options):
    command = [sys.executable, "-P", "-m", "holdfast_cli.main", "lab", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)


class Person:
    """Somebody who plays with one lab by its commands."""

    def __init__(self, folder):
        self.name = f"test-{os.getpid()}-{next(numbers)}"
        self.file = folder / "vip.yaml"
        self.file.write_text(VIP)

    def refused(self, command, *words):
        return holdfast(command, "--name", self.name, *words)

    def __call__(self, command, *words):
        finished = self.refused(command, *words)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def up(self, *hosts):
        return self("up", "--hosts", ",".join(hosts or ("n1", "n2")), str(self.file))

    @property
    def lab(self):
        return Lab.open(self.name)

    def host(self, name):
        return self.lab.record.host(name)

    def inside(self, host, *command):
        return subprocess.run(self.lab.inside(host, list(command)), capture_output=True, text=True, check=False)

    def reaches(self, one, other):
        address = self.host(other).addresses[0].partition("/")[0]
        return self.inside(one, "ping", "-n", "-c1", "-W1", address).returncode == 0

    def namespaces(self):
        return sorted(path.name for path in NAMESPACES.glob(namespace_name(self.name, "*")))

    def holder(self):
        fetched = self.inside("client", "curl", "-s", "-m1", "http://10.77.0.200:8080/")
        return fetched.stdout.strip()


@pytest.fixture
def person(tmp_path):
    made = Person(tmp_path)
    yield made
    if LabStore(made.name).exists():
        made.lab.down()
    assert made.namespaces() == []


def test_what_up_makes_down_removes(person):
    before = set(Path("/sys/class/net").iterdir())
    assert "client: 10.77.0.100/24, fd77::64/64" in person.up().splitlines()
    members = ("client", "n1", "n2", "switch")
    assert person.namespaces() == [namespace_name(person.name, member) for member in members]
    assert set(Path("/sys/class/net").iterdir()) == before
    running = [process for name in ("n1", "n2") for process in (person.host(name).router, person.host(name).service)]
    assert all(map(processes.is_running, running))
    person("down")
    assert person.namespaces() == []
    assert not (LABS_FOLDER / person.name).exists()
    assert not any(map(processes.is_running, running))
    assert person("down") == f"no lab {person.name} is up\n"


def test_the_vip_leads_the_client_to_a_hosts_service_on_both_families(person):
    person.up()
    eventually(lambda: person.holder() in ("n1", "n2"), "the VIP is held")
    assert person("exec", "client", "--", "curl", "-s", "-m2", "http://[fd77::200]:8080/").strip() == person.holder()


def test_an_up_that_was_killed_is_taken_down(person):
    command = [sys.executable, "-P", "-m", "holdfast_cli.main", "lab", "up", "--name", person.name, str(person.file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as killed:
        eventually(lambda: len(person.namespaces()) >= 2, "the lab is half made")
        killed.kill()
    assert len(person.namespaces()) >= 2
    assert "is up already" in person.refused("up", str(person.file)).stderr
    person("down")
    assert person.namespaces() == []


def test_an_up_that_is_interrupted_leaves_nothing(person):
    command = [sys.executable, "-P", "-m", "holdfast_cli.main", "lab", "up", "--name", person.name, str(person.file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as interrupted:
        eventually(lambda: len(person.namespaces()) >= 2, "the lab is half made")
        interrupted.send_signal(signal.SIGINT)
    assert interrupted.returncode != 0
    assert person.namespaces() == []
    assert not LabStore(person.name).exists()


def test_a_second_lab_of_the_same_name_is_refused_and_the_first_is_not_disturbed(person):
    person.up()
    record = person.lab.record
    refused = person.refused("up", str(person.file))
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert person.lab.record == record
    assert processes.is_running(record.hosts[0].router)


def test_a_namespace_that_no_lab_made_is_not_taken_over(person):
    foreign = namespace_name(person.name, "n2")
    subprocess.run(["ip", "netns", "add", foreign], check=True)
    try:
        refused = person.refused("up", str(person.file))
        assert (refused.returncode, "is there already" in refused.stderr) == (1, True)
        assert person.namespaces() == [foreign]
    finally:
        subprocess.run(["ip", "netns", "del", foreign], check=True)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (VIP.replace("virtualRouterID: 51", "virtualRouterID: 300"), "VirtualIP web: spec.virtualRouterID: "),
        (VIP + "---" + VIP.replace("name: web", "name: other", 1).replace("200", "201"), "virtualRouterID"),
        (VIP.replace("metadata: {", "metadata: ["), "is not YAML"),
    ],
)
def test_bad_input_is_told_before_anything_is_made(person, wrong, complaint):
    person.file.write_text(wrong)
    refused = person.refused("up", str(person.file))
    assert refused.returncode == 2
    assert f"error: {person.file}: " in refused.stderr
    assert complaint in refused.stderr
    assert not LabStore(person.name).exists()


def test_a_host_whose_power_is_off_is_gone_and_boots_afresh(person):
    person.up()
    n1 = person.host("n1")
    (Path(LABS_FOLDER) / person.name / "n1" / "state" / "left-over").write_text("")
    person("fail", "n1", "--kind", "power")
    assert processes.namespace_members(NAMESPACES / n1.namespace) == []
    assert not person.reaches("client", "n1")
    assert "10.77" not in person.inside("n1", "ip", "address").stdout
    assert person.refused("fail", "n1", "--kind", "link").returncode == 2
    assert eventually(person.holder, "the other holds") == "n2"
    assert "power" in person("heal", "n1")
    assert person.reaches("client", "n1")
    assert not (Path(LABS_FOLDER) / person.name / "n1" / "state" / "left-over").exists()
    assert processes.is_running(person.host("n1").router)
    assert person.host("n1").router != n1.router


def test_a_frozen_host_answers_while_its_holdfast_stands_still(person):
    person.up()
    person("fail", "n1", "--kind", "freeze")
    tree = processes.descendants(person.host("n1").router)
    assert len(tree) >= 2
    assert all(map(processes.is_stopped, tree))
    assert person.reaches("client", "n1")
    assert processes.is_running(person.host("n1").service)
    assert "has failed like that already" in person("fail", "n1", "--kind", "freeze")
    person("heal", "n1")
    assert not any(map(processes.is_stopped, processes.descendants(person.host("n1").router)))


def test_a_failed_service_refuses_connections_and_comes_back(person):
    person.up()
    url = "http://10.77.0.11:8080/"
    assert person.inside("client", "curl", "-s", "-m1", url).stdout == "n1\n"
    person("fail", "n1", "--kind", "service")
    assert person.inside("client", "curl", "-s", "-m1", url).returncode == 7
    person("heal", "n1")
    assert person.inside("client", "curl", "-s", "-m1", url).stdout == "n1\n"


def test_a_service_that_nothing_looks_at_does_not_fail(person):
    person.file.write_text(UNTRACKED)
    person.up()
    refused = person.refused("fail", "n1", "--kind", "service")
    assert refused.returncode == 2
    assert "no probe of these VirtualIPs looks at the service" in refused.stderr


def test_a_cut_link_takes_the_hosts_carrier(person):
    person.up()
    person("fail", "n1", "--kind", "link")
    [link] = json.loads(person.inside("n1", "ip", "-j", "link", "show", "dev", "eth0").stdout)
    assert "NO-CARRIER" in link["flags"]
    assert not person.reaches("client", "n1")
    person("heal", "n1")
    assert person.reaches("client", "n1")


def test_a_partitioned_host_is_cut_off_from_the_hosts_and_from_nobody_else(person):
    person.up("n1", "n2", "n3")
    assert all(person.reaches(one, other) for one, other in itertools.permutations(("n1", "n2", "n3"), 2))
    person("fail", "n2", "--kind", "partition")
    assert not person.reaches("n1", "n2")
    assert not person.reaches("n2", "n3")
    assert person.reaches("n1", "n3")
    assert all(person.reaches("client", name) for name in ("n1", "n2", "n3"))
    person("fail", "n3", "--kind", "partition")
    assert not person.reaches("n1", "n3")
    assert not person.reaches("n2", "n3")
    assert all(person.reaches("client", name) for name in ("n1", "n2", "n3"))
    person("heal", "n2")
    person("heal", "n3")
    assert all(person.reaches(one, other) for one, other in itertools.permutations(("n1", "n2", "n3"), 2))


def test_every_failure_of_a_host_is_undone_at_once(person):
    person.up()
    for kind in ("partition", "service", "freeze", "link", "power"):
        person("fail", "n1", "--kind", kind)
    assert person("heal", "n1") == "n1: healed from partition, service, freeze, link, power\n"
    assert person.reaches("n1", "n2")
    assert processes.is_running(person.host("n1").service)
    assert person("heal", "n1") == "nothing had failed on n1\n"


def test_status_tells_what_failed_and_who_really_has_the_address(person):
    person.up()
    holder = eventually(person.holder, "the VIP is held")
    other = "n2" if holder == "n1" else "n1"
    person("fail", other, "--kind", "freeze")
    rows = {line.split()[0]: line for line in person("status").splitlines()}
    assert rows["HOST"].split()[:4] == ["HOST", "CONDITION", "SERVICE", "VIRTUALIP"]
    assert "Master" in rows[holder]
    assert rows[holder].endswith("10.77.0.200 fd77::200")
    assert rows[other].split()[1:3] == ["frozen", "up"]
    assert rows[other].endswith("-")


def test_the_client_cannot_fail_and_unknown_hosts_are_told(person):
    person.up()
    assert "the client cannot fail" in person.refused("fail", "client", "--kind", "power").stderr
    assert "it has n1, n2, client" in person.refused("heal", "n7").stderr


def test_exec_ends_as_its_command_ends(person):
    person.up()
    finished = person.refused("exec", "n1", "--", "sh", "-c", "ip -br link show eth0; exit 7")
    assert "02:68:66:00:00:0b" in finished.stdout
    assert finished.returncode == 7


def test_a_lab_waits_for_another_that_is_being_made(person, tmp_path):
    other = Person(tmp_path)
    try:
        with LabStore(person.name).lock_all():
            command = [sys.executable, "-P", "-m", "holdfast_cli.main", "lab", "up", "--name", other.name]
            with_nobody = subprocess.Popen([*command, str(other.file)], stdout=subprocess.DEVNULL)
            time.sleep(0.5)
            assert other.namespaces() == []
        assert with_nobody.wait(timeout=30) == 0
        assert other.lab.record.name == other.name
    finally:
        if LabStore(other.name).exists():
            other.lab.down()
