"""Two hosts with keepalived's files, each run by keepalived or, converted, by Holdfast: one of them has the address."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from holdfast_testing.hosts import Host, eventually
from holdfast_testing.keepalived import Keepalived, require_keepalived
from holdfast_testing.keepalived_files import convert_texts

pytestmark = pytest.mark.netns

VIP = "10.77.0.200"


@pytest.fixture(autouse=True)
def _keepalived() -> None:
    require_keepalived()


def one_instance(*lines: str, head: str = "") -> str:
    said = ("interface eth0", "virtual_router_id 51", f"virtual_ipaddress {{\n {VIP}/24\n}}", *lines)
    return f"{head}vrrp_instance V {{\n" + "\n".join(said) + "\n}\n"


STRICT = "global_defs {\nvrrp_strict\n}\n"
SECRET = "authentication {\nauth_type PASS\nauth_pass secret\n}"

CASES = {
    "MASTER without a priority": (one_instance("state MASTER"), one_instance("state BACKUP", "priority 100")),
    "priority 255": (one_instance("priority 255"), one_instance("priority 250")),
    "a password in strict mode": (
        one_instance("priority 110", SECRET, head=STRICT),
        one_instance("priority 100", SECRET, head=STRICT),
    ),
    "a misspelt password type": (
        one_instance("priority 110", SECRET.replace("PASS\n", "PASS;\n")),
        one_instance("priority 100"),
    ),
    "state SLAVE": (one_instance("state MASTER", "priority 110"), one_instance("state SLAVE", "priority 90")),
}


def start(host: Host, text: str, yaml: str, *, by_keepalived: bool) -> None:
    if by_keepalived:
        program = Keepalived(host, "", 2)
        program.file.write_text(text, encoding="utf-8")
        program.start()
    else:
        host.run(yaml)


def answers(lan: Any, case: str, program: str) -> bool:
    """Whether a client is answered; keepalived in strict mode drops what is for the address itself."""
    return lan.answers(VIP) if case != "a password in strict mode" or program == "h" else not lan.answers(VIP)


def one_holds(lan: Any, name: str) -> None:
    eventually(lambda: lan.holders(VIP) == [name], f"{name} alone holds {VIP}", 20)


@pytest.mark.parametrize("programs", ["hh", "hk", "kh", "kk"])
@pytest.mark.parametrize("case", CASES)
def test_one_host_has_the_address_before_and_after_the_other_is_gone(
    segment: Any, tmp_path: Path, case: str, programs: str
) -> None:
    lan = segment("n1", "n2")
    texts = CASES[case]
    yaml = convert_texts(tmp_path, *texts).yaml
    for host, text, program in zip(lan.hosts, texts, programs, strict=True):
        start(host, text, yaml, by_keepalived=program == "k")
    one_holds(lan, "n1")
    assert answers(lan, case, programs[0])
    lan.switch.ip("link set port-n1 down")
    eventually(lambda: lan.hosts[1].has(VIP), f"n2 holds {VIP}", 20)
    assert answers(lan, case, programs[1])
    lan.switch.ip("link set port-n1 up")
    one_holds(lan, "n1")  # without nopreempt it moves back
    time.sleep(2)
    assert lan.holders(VIP) == ["n1"]
