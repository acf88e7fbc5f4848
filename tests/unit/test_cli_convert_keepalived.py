"""The real keepalived as the judge: what it accepts is converted, and what it refuses is refused in the same line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from holdfast_api.errors import ConfigurationErrors
from holdfast_cli.convert import Input, convert
from holdfast_testing.keepalived_files import SCRIPT, addresses, instance
from holdfast_testing.namespaces import Namespace, Namespaces
from holdfast_testing.required import absent

pytestmark = pytest.mark.netns

ROOT = Path(__file__).parents[2]
SECURITY = "global_defs {\nscript_user root\nenable_script_security\n}\n"


@pytest.fixture
def host(namespaces: Namespaces) -> Namespace:
    """A host with eth0 and eth1 on which keepalived can test configurations."""
    if shutil.which("keepalived") is None:
        absent("netns", "keepalived is not installed")
    made = namespaces.add("keepalived")
    made.ip(
        "link add eth0 type veth peer name eth1",
        "link set eth0 up",
        "link set eth1 up",
        "address add 10.77.0.1/24 dev eth0",
    )
    return made


def said(host: Namespace, file: Path, *options: str) -> list[str]:
    """What `keepalived --config-test` has to say of a configuration."""
    command = host.command(["keepalived", "--config-test", f"--use-file={file}", *options])
    finished = subprocess.run(command, text=True, capture_output=True, check=False, timeout=30)
    return (finished.stdout + finished.stderr).splitlines()


@pytest.mark.parametrize("name", ["n1", "n2"])
def test_keepalived_runs_the_story_s_configurations(host: Namespace, name: str) -> None:
    # n1's is the warning that the story is about.
    ignored = "(VI_1) Warning - nopreempt will not work with initial state MASTER - clearing"
    lines = said(host, ROOT / "examples" / "keepalived" / f"{name}.conf")
    assert lines == ([ignored] if name == "n1" else [])


def test_keepalived_accepts_the_test_data(host: Namespace) -> None:
    folder = ROOT / "tests" / "data" / "keepalived"
    for name in ("alpha", "beta", "gamma"):
        assert said(host, folder / "template.conf", f"--config-id={name}") == []
    for name in ("a", "b"):
        refusals = [
            line for line in said(host, folder / f"gateway-{name}.conf") if "Unknown" in line or "invalid" in line
        ]
        assert refusals == []


# Each is a configuration and the line that both complain about.
REFUSED = [
    (instance("nonsense 3"), 7),
    ("foo_bar {\n}\n", 1),
    (instance("priority 300"), 7),
    (instance("priority 0"), 7),
    (instance("version 4"), 7),
    (instance("state FOO"), 7),
    (instance("authentication {", "auth_type PASSX", "auth_pass a", "}"), 8),
    (instance("unicast_peer {", "fd00::1", "}"), 8),
    (instance("unicast_peer {", "10.0.0.2 10.0.0.3", "}"), 8),
    (instance("track_script {", "y", "}"), 8),
    (SCRIPT + instance("track_script {", "chk weight 500", "}"), 11),
    (SCRIPT + instance("track_script {", "chk other", "}"), 11),
    (instance(block=addresses("10.0.0.1.2")), 5),
    (instance(block=addresses("10.0.0.1/33")), 5),
    (instance(block=addresses("10.0.0.1", "fd00::1")), 6),
    (instance(block=addresses("10.0.0.1 foo")), 5),
    (instance() + "}\n", 8),
    (instance() + instance(vrid=9), 8),
    (instance() + "vrrp_sync_group g {\nVI_1\n}\n", 9),
]


@pytest.mark.parametrize(("text", "line"), REFUSED, ids=lambda value: str(value)[-40:])
def test_what_keepalived_complains_about_is_refused_in_the_same_line(
    host: Namespace, tmp_path: Path, text: str, line: int
) -> None:
    file = tmp_path / "n1.conf"
    file.write_text(text)
    complaints = said(host, file)
    assert any(re.search(rf"\bLine {line}\)", complaint) for complaint in complaints), complaints
    with pytest.raises(ConfigurationErrors) as refused:
        convert([Input(file)], strict=True)
    assert f"{file}:{line}" in [error.file for error in refused.value.errors]


def test_what_keepalived_complains_about_as_a_whole_is_refused(host: Namespace, tmp_path: Path) -> None:
    file = tmp_path / "n1.conf"
    for text, complaint in (
        (instance().removesuffix("}\n"), "missing '}'s"),
        ("vrrp_instance a {\ninterface eth0\n" + addresses("10.0.0.1") + "\n}\n", "virtual router id must be set"),
        (instance(interface=""), "Unknown interface"),
        (instance() + instance(name="b", block=addresses("10.0.0.1")), "both use VRID 51"),
    ):
        file.write_text(text)
        assert any(complaint in line for line in said(host, file))
        with pytest.raises(ConfigurationErrors):
            convert([Input(file)])


ACCEPTED = [
    instance("state BACKUP", "priority 49", "advert_int 2", "nopreempt"),
    instance("version 3", "advert_int 0.25", "preempt_delay 3.5", "accept"),
    "vrrp_instance a\n{\ninterface eth0\nvirtual_router_id 9\nvirtual_ipaddress\n{\n10.0.0.1\n}\n}\n",
    "vrrp_instance a{ interface eth0\nvirtual_router_id 9\nvirtual_ipaddress { 10.0.0.1 } }\n",
    'vrrp_instance "VI one" {\ninterface eth0\nvirtual_router_id 9\n' + addresses("10.0.0.1") + "\n}\n",
    SECURITY
    + SCRIPT
    + instance("track_script { chk weight -2 reverse", "}", "track_interface {", "eth1 weight 3", "}"),
    SECURITY + 'vrrp_script chk { script "/bin/echo \'a # b\' \\"q\\" # d" } # e\n' + instance("track_script { chk }"),
    instance("authentication {", "auth_type PASS", 'auth_pass "a#b!c d"', "}"),
    instance("unicast_src_ip 10.77.0.1", "unicast_peer {", "10.77.0.2 min_ttl 3", "}"),
    instance(block=addresses("~SEQ(X, 2, 4) 10.0.0.${X}/24", "~LST(Y, 7, 8) 10.0.1.$Y")),
    instance("virtual_ipaddress_excluded {", "fd00::1/64 dev eth0 -nodad", "}"),
    instance("virtual_ipaddress {", "10.0.0.7/24 dev eth0 label eth0:7 scope link brd 10.0.0.255", "}"),
    "$VI= \\\n vrrp_instance VI_${N} { \\\n interface eth0 \\\n virtual_router_id ${N} \\\n"
    " virtual_ipaddress { \\\n 10.0.0.${N} \\\n } \\\n }\n$N=1\n$VI\n$N=2\n$VI\n",
    instance("@n1 priority 120", "@^n1 priority 999"),
]


@pytest.mark.parametrize("text", ACCEPTED, ids=lambda text: text[-40:])
def test_what_keepalived_accepts_is_converted(host: Namespace, tmp_path: Path, text: str) -> None:
    file = tmp_path / "n1.conf"
    file.write_text(text)
    assert said(host, file, "--config-id=n1") == []
    assert convert([Input(file)]).converted
