"""`holdfast run` on hosts: what the kernel and the neighbours see."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import datetime
from itertools import pairwise
from socket import inet_aton
from typing import Any

import pytest

from holdfast_speaker.host.netlink import RequestSocket, address_request
from holdfast_testing.hosts import Host, eventually
from holdfast_testing.namespaces import Namespace
from holdfast_testing.restarts import holder_and_backup

pytestmark = [pytest.mark.netns, pytest.mark.alone]

VIP = "10.77.0.200"
VIP6 = "fd77::200"


def web(name: str = "web", addresses: str = "[10.77.0.200/24]", vrid: int = 51, **spec: Any) -> str:
    """A VirtualIP document."""
    spec = {"advertisementIntervalMilliseconds": 100, **spec}
    fields = "".join(f"  {field}: {json.dumps(value)}\n" for field, value in spec.items())
    return (
        "apiVersion: holdfast.dev/v1alpha1\n"
        "kind: VirtualIP\n"
        f"metadata: {{name: {name}}}\n"
        f"spec:\n  addresses: {addresses}\n  virtualRouterID: {vrid}\n{fields}"
    )


PRIORITIES = {"priorities": [{"nodeName": "n1", "priority": 110}, {"nodeName": "n2", "priority": 100}]}


def advertisements(namespace: Namespace, seconds: float) -> list[tuple[float, int]]:
    """Times and priorities of the advertisements that one host receives meanwhile."""
    script = (
        "import socket,sys,time\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_RAW,112)\n"
        "s.setsockopt(socket.SOL_SOCKET,33,1<<24)\n"  # SO_RCVBUFFORCE: a flood must not deafen the witness
        "s.setsockopt(socket.IPPROTO_IP,socket.IP_ADD_MEMBERSHIP,\n"
        "  socket.inet_aton('224.0.0.18')+socket.inet_aton('10.77.0.100'))\n"
        f"end=time.monotonic()+{seconds}\n"
        "while (left:=end-time.monotonic())>0:\n"
        "  s.settimeout(left)\n"
        "  try: p=s.recv(2048)\n"
        "  except TimeoutError: break\n"
        "  print(time.monotonic(), p[22], flush=True)\n"
    )
    lines = namespace.run(["python3", "-c", script]).splitlines()
    return [(float(line.split()[0]), int(line.split()[1])) for line in lines]


def test_one_of_two_hosts_holds_the_address_and_it_answers(segment: Any) -> None:
    lan = segment("n1", "n2")
    holder_and_backup(lan, web(addresses=f"[{VIP}/24, {VIP6}/64]"))
    assert lan.holders(VIP) == ["n1"]
    assert lan.holders(VIP6) == ["n1"]
    assert lan.answers(VIP)
    assert lan.answers(VIP6)


def test_sigterm_says_farewell_removes_the_address_and_ends_at_once(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(advertisementIntervalMilliseconds=1000))
    began = time.monotonic()
    assert n1.stop() == 0
    took = time.monotonic() - began
    assert took < 0.5 + 0.5, "500 ms is promised; twice that on a noisy machine"
    assert not n1.has(VIP)
    n2.becomes("Master")
    assert n2.routers["web"]["reason"] == "MasterReleased"
    assert n2.routers["web"]["counters"]["priority-zero-pkts-rcvd"] == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_the_kernel_takes_the_addresses_of_an_engine_that_is(segment: Any, number: signal.Signals) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web(addresses=f"[{VIP}/24, {VIP6}/64]")).becomes("Master")
    n1.signal(number)
    began = time.monotonic()
    eventually(lambda: not n1.has(VIP) and not n1.has(VIP6), "the addresses are gone", within_seconds=3.0)
    assert time.monotonic() - began < 3.0


def test_a_frozen_holder_that_thaws_is_quiet_and_lets_the_new_one_be(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(nodes=PRIORITIES))
    n1.signal(signal.SIGSTOP)
    n2.becomes("Master")
    eventually(lambda: not n1.has(VIP), "n1 has lost the address", within_seconds=3.0)
    n1.signal(signal.SIGCONT)
    n1.becomes("Backup")
    assert n1.routers["web"]["reason"] == "SupersededWhileStalled"
    heard = [priority for _, priority in advertisements(lan.client, 0.5)]
    assert set(heard) == {100}, "only n2 advertises"
    assert lan.holders(VIP) == ["n2"]
    assert n2.routers["web"]["transitions"] == 1


def test_a_supervisor_that_is_killed_takes_its_engine_along_cleanly(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(advertisementIntervalMilliseconds=1000))
    assert n1.process is not None
    n1.process.kill()
    n2.becomes("Master", within_seconds=3.0)
    assert n2.routers["web"]["reason"] == "MasterReleased", "the engine said farewell"
    assert not n1.has(VIP)


def test_an_address_deleted_by_hand_is_put_back_without_leaving_master(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web(addresses=f"[{VIP}/24, {VIP6}/64]")).becomes("Master")
    for address in (f"{VIP}/32", f"{VIP6}/128"):
        n1.namespace.ip(f"address del {address} dev eth0")
        eventually(lambda: n1.has(VIP) and n1.has(VIP6), f"{address} is back", within_seconds=2.0)
    assert n1.routers["web"]["transitions"] == 1
    assert "an address was taken away and is put back" in n1.messages("warning")


def test_carrier_loss_releases_at_once_and_its_return_moves_nothing(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(nodes=PRIORITIES))
    lan.switch.ip("link set port-n1 down")
    n1.becomes("Initialize", within_seconds=2.0)
    assert n1.routers["web"]["obstacles"] == ["LinkDown"]
    assert not n1.has(VIP)
    n2.becomes("Master")
    lan.switch.ip("link set port-n1 up")
    n1.becomes("Backup")
    time.sleep(2.0)
    assert lan.holders(VIP) == ["n2"]


def test_an_interface_that_does_not_exist_yet_is_waited_for_and_one_made_anew_is_found_again(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web(interface="eth7"))
    eventually(lambda: n1.routers.get("web", {}).get("obstacles") == ["InterfaceMissing"], "the obstacle is shown")
    assert n1.routers["web"]["obstacleDetail"] == "there is no interface eth7"
    for _ in range(2):
        n1.namespace.ip(
            "link add eth7 type veth peer name far7",
            "link set far7 up",
            "link set eth7 up",
            "address add 10.77.0.77/24 dev eth7",
        )
        n1.becomes("Master")
        assert n1.has(VIP, "eth7")
        n1.namespace.ip("link del eth7")
        n1.becomes("Initialize")


def deletions_of(namespace: Namespace, address: str, do: Any) -> list[str]:
    """What `ip monitor` shows of an address being deleted while something is done."""
    monitor = namespace.start(["ip", "-o", "monitor", "address"], stdout=-1)
    time.sleep(0.3)
    do()
    monitor.terminate()
    output, _ = monitor.communicate(timeout=5)
    return [line for line in output.splitlines() if line.startswith("Deleted") and address in line]


def test_a_change_of_priority_tracking_and_addresses_never_drops_the_held_address(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web()).becomes("Master")
    tracked = {"probes": [{"name": "ok", "exec": {"command": ["true"]}, "periodMilliseconds": 200}]}
    changes = [
        web(priority=90),
        web(priority=90, track=tracked),
        web(priority=90, track=tracked, addresses=f"[{VIP}/24, 10.77.0.201/24]"),
        web(priority=90, track=tracked, addresses=f"[{VIP}/24, 10.77.0.201/24, {VIP6}]"),
        web(priority=90, addresses=f"[{VIP}/24]", advertisementIntervalMilliseconds=50),
    ]

    def change() -> None:
        for generation, document in enumerate(changes, start=2):
            n1.write(document)
            eventually(lambda wanted=generation: n1.status.get("generation") == wanted, "the change is in force")
            assert n1.state() == "Master"
            assert n1.has(VIP)

    assert deletions_of(n1.namespace, VIP + "/", change) == []
    assert n1.routers["web"]["transitions"] == 1
    assert not n1.has("10.77.0.201")
    assert not n1.has(VIP6)


def test_a_change_of_one_virtual_ip_does_not_disturb_another(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    other = web("db", "[10.77.0.201/24]", 52)
    n1.run(web() + "---\n" + other).becomes("Master")
    n1.becomes("Master", "db")

    def change() -> None:
        n1.write(web(vrid=53) + "---\n" + other)
        eventually(lambda: n1.routers.get("web", {}).get("virtualRouterID") == 53, "the change is in force")
        n1.write(other)
        eventually(lambda: list(n1.routers) == ["db"], "web is removed")

    assert deletions_of(n1.namespace, "10.77.0.201/", change) == []
    assert not n1.has(VIP)
    assert n1.routers["db"]["transitions"] == 1


def test_a_broken_file_keeps_what_runs_and_says_why_also_after_sighup(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web()).becomes("Master")
    n1.write(web(priority=300))
    reason = f"the running configuration is kept: {n1.file}: VirtualIP web: spec.priority: expected `int` <= 254"
    eventually(lambda: reason in n1.messages("error"), "the reason is in the log")
    assert n1.process is not None
    n1.process.send_signal(signal.SIGHUP)
    eventually(lambda: n1.messages("error").count(reason) == 2, "the reason is in the log again")
    assert n1.state() == "Master"
    assert n1.has(VIP)


def test_a_flood_of_bad_packets_does_not_widen_the_gap_between_advertisements(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n1.run(web(advertisementIntervalMilliseconds=200)).becomes("Master")
    flood = (
        "import socket,time\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_RAW,112)\n"
        "s.setsockopt(socket.IPPROTO_IP,socket.IP_MULTICAST_TTL,255)\n"
        "s.setsockopt(socket.IPPROTO_IP,socket.IP_MULTICAST_IF,socket.inet_aton('10.77.0.12'))\n"
        "bad=bytes([0x31,51,200,1,0,20,0xde,0xad,10,77,0,200])\n"
        "began=time.monotonic(); sent=0\n"
        "while (passed:=time.monotonic()-began)<5:\n"
        "  while sent<passed*20000: s.sendto(bad,('224.0.0.18',0)); sent+=1\n"
        "  time.sleep(0.0005)\n"
        "print(sent)\n"
    )
    flooding = n2.namespace.start(["python3", "-c", flood], stdout=-1)
    time.sleep(0.3)
    times = [at for at, priority in advertisements(lan.client, 4.0) if priority == 100]
    sent = int(flooding.communicate(timeout=10)[0])
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert sent > 80_000
    assert max(gaps) < 1.6 * 0.2, f"{len(gaps)} gaps, the widest {max(gaps):.3f} s"
    assert n1.routers["web"]["counters"]["checksum-errors"] > 50_000
    assert n1.state() == "Master"


def test_leftovers_of_a_predecessor_are_removed_and_foreign_addresses_never_touched(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    n2.run(web()).becomes("Master")
    with n1.namespace.inside():
        left = address_request(n1.namespace.index("eth0"), inet_aton(VIP), 24, valid_seconds=60)
        assert RequestSocket().apply([left]) == [0]
    n1.namespace.ip("address add 10.77.0.210/24 dev eth0")
    n1.run(web()).becomes("Backup")
    assert not n1.has(VIP)
    assert n1.has("10.77.0.210")
    assert "removed an address that a former engine left" in n1.messages()


def test_a_vip_that_somebody_else_put_on_an_interface_is_refused_until_it_is_gone(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.namespace.ip(f"address add {VIP}/24 dev eth0")
    n1.run(web() + "---\n" + web("db", "[10.77.0.201/24]", 52)).becomes("Master", "db")
    assert n1.routers["web"]["obstacles"] == ["AddressInUse"]
    expected = f"cannot run: {VIP}/24 is on eth0 already, not put there by Holdfast"
    assert expected in n1.messages("error")
    assert n1.has(VIP)
    n1.namespace.ip(f"address del {VIP}/24 dev eth0")
    n1.becomes("Master")
    n1.stop()
    assert not n1.has(VIP)


def test_a_second_run_with_the_same_state_directory_waits_for_the_first(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.run(web()).becomes("Master")
    first = n1.process
    assert first is not None
    engine = n1.engine
    n1.run()
    waiting = f"runs on {n1.state_directory}; waiting until it ends"
    eventually(lambda: any(waiting in told for told in n1.messages()), "the second says that it waits")
    time.sleep(1.0)
    assert n1.engine == engine
    assert n1.routers["web"]["transitions"] == 1
    first.terminate()
    assert first.wait(timeout=5) == 0
    eventually(lambda: n1.status.get("pid", engine) != engine, "the second engine runs")
    n1.becomes("Master")


def test_a_state_directory_that_cannot_be_written_is_a_warning_and_no_obstacle(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.state_directory.write_text("a file where the folder should be", encoding="utf-8")
    n1.run(web())
    eventually(lambda: n1.has(VIP), "the VIP is held all the same")
    assert any("cannot be" in message for message in n1.messages("warning"))


def test_a_full_disk_is_a_warning_and_no_obstacle(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.state_directory.mkdir()
    # The mount is in the process's own mount namespace and goes with it.
    script = 'mount -t tmpfs -o size=4k none "$1" && head -c 4096 /dev/zero >"$1/filler"; shift; exec "$@"'
    n1.write(web())
    command = n1.command(
        "run", f"--file={n1.file}", "--node-name=n1", f"--state-dir={n1.state_directory}", "--log-format=json"
    )
    with n1.log_file.open("a", encoding="utf-8") as log:
        n1.process = n1.namespace.start(
            ["unshare", "--mount", "sh", "-c", script, "sh", str(n1.state_directory), *command], stderr=log
        )
    eventually(lambda: n1.has(VIP), "the VIP is held all the same")
    warnings = [message for message in n1.messages("warning") if "No space left on device" in message]
    assert warnings


def test_corrupt_state_files_are_ignored_with_a_warning(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.state_directory.mkdir()
    for name in ("state.json", "config.json"):
        (n1.state_directory / name).write_bytes(b"\xff{]" + os.urandom(64))
    n1.run(web()).becomes("Master")
    assert any("state.json is ignored" in message for message in n1.messages("warning"))


def test_without_permission_one_line_says_what_is_needed(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.write(web())
    run = n1.command("run", f"--file={n1.file}", "--node-name=n1", f"--state-dir={n1.state_directory}")
    command = [*run[:3], "setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw", *run[3:]]
    process = n1.namespace.start(command, stderr=-1)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors == "error: no permission: holdfast run needs CAP_NET_RAW (run it as root)\n"


def test_a_failing_service_moves_the_vip_and_its_recovery_does_not(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = lan.hosts
    for host in lan.hosts:
        (host.folder / "healthy").touch()
        command = ["test", "-e", str(host.folder / "healthy")]
        probe = {"name": "up", "exec": {"command": command}, "periodMilliseconds": 100, "failureThreshold": 1}
        host.write(web(track={"probes": [probe]}, nodes=PRIORITIES))
    n1.run().becomes("Master")
    n2.run().becomes("Backup")
    (n1.folder / "healthy").unlink()
    n2.becomes("Master")
    assert n2.routers["web"]["reason"] == "MasterFailing"
    n1.becomes("Backup")
    assert n1.routers["web"]["health"] == "Failing"
    (n1.folder / "healthy").touch()
    eventually(lambda: n1.routers["web"]["health"] == "Healthy", "n1 has recovered")
    time.sleep(1.5)
    assert lan.holders(VIP) == ["n2"]
    (n2.folder / "healthy").unlink()
    n1.becomes("Master")
    (n1.folder / "healthy").unlink()
    eventually(lambda: n1.routers["web"]["effectivePriority"] < 50, "n1 is failing too")
    time.sleep(1.5)
    assert lan.holders(VIP) == ["n1"], "somebody still holds it"


def test_a_tracked_interface_that_goes_down_counts_as_a_failing_service(segment: Any) -> None:
    lan = segment("n1", "n2")
    for host in lan.hosts:
        host.namespace.ip("link add up0 type veth peer name up1", "link set up0 up", "link set up1 up")
    n1, n2 = holder_and_backup(lan, web(track={"interfaces": ["up0"]}))
    n1.namespace.ip("link set up1 down")
    n2.becomes("Master")
    n1.becomes("Backup")
    assert n1.routers["web"]["healthDetail"] == "tracked interface up0 is down"


def test_release_gives_the_vip_up_when_nobody_is_healthy(segment: Any) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    mark = n1.folder / "healthy"
    mark.touch()
    probe = {"name": "up", "exec": {"command": ["test", "-e", str(mark)]}, "periodMilliseconds": 100}
    n1.run(web(track={"probes": [probe], "whenFailing": "Release"})).becomes("Master")
    mark.unlink()
    n1.becomes("Initialize")
    assert n1.routers["web"]["obstacles"] == ["ServiceFailed"]
    assert not n1.has(VIP)
    mark.touch()
    n1.becomes("Master")


def test_a_switchover_moves_the_vip_to_where_it_is_asked_for(segment: Any) -> None:
    lan = segment("n1", "n2")
    n1, n2 = holder_and_backup(lan, web(nodes=PRIORITIES))
    said = n2.namespace.run(n2.command("switchover", "web", "--to=n2", f"--state-dir={n2.state_directory}")[3:])
    assert said == "default/web is held by n2 now\n"
    n1.becomes("Backup")
    assert n1.routers["web"]["reason"] == "HigherPriority"
    said = n2.namespace.run(n2.command("switchover", "web", "--to=n1", f"--state-dir={n2.state_directory}")[3:])
    assert "default/web is held by 10.77.0.11 now (priority 110)" in said
    assert lan.holders(VIP) == ["n1"]


def test_unicast_peers_need_no_multicast(segment: Any) -> None:
    lan = segment("n1", "n2")
    document = web(transport="Unicast", externalPeers=["10.77.0.11", "10.77.0.12"])
    n1, n2 = holder_and_backup(lan, document)
    assert advertisements(lan.client, 0.5) == []
    n1.stop()
    n2.becomes("Master")


def test_with_unicast_a_starting_node_trusts_silence_sooner_when_a_peer_answers_it(segment: Any) -> None:
    lan = segment("n1", "n2", "n3", "n4")
    n1, _, n3, n4 = lan.hosts
    n1.run(web(transport="Unicast", externalPeers=["10.77.0.12"])).becomes("Master")
    n3.run(web("db", "[10.77.0.201/24]", 52, transport="Unicast", externalPeers=["10.77.0.99"])).becomes("Master", "db")
    n4.run(web("mq", "[10.77.0.202/24]", 53, externalPeers=["10.77.0.12"])).becomes("Master", "mq")

    def waited(host: Host) -> float:
        times = [datetime.fromisoformat(line["time"]) for line in host.log if line.get("toState")]
        return (times[1] - times[0]).total_seconds()

    assert waited(n1) < 0.9, "n2 answered, so that three silent intervals are enough"
    assert waited(n3) > 1.0, "nobody answered: the quiet period"
    assert waited(n4) > 1.0, "with multicast an answer to ARP is no proof that the group is heard"


def test_two_virtual_ips_with_one_virtual_router_id_on_one_link_are_refused_before_anything_is_touched(
    segment: Any,
) -> None:
    lan = segment("n1")
    (n1,) = lan.hosts
    n1.write(web() + "---\n" + web("db", "[10.77.0.201/24]", 51))
    command = n1.command("run", f"--file={n1.file}", "--node-name=n1", f"--state-dir={n1.state_directory}")
    process = n1.namespace.start(command[3:], stderr=-1)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert errors.count("\n") == 1
    assert "spec.virtualRouterID" in errors
    assert not n1.state_directory.exists()
