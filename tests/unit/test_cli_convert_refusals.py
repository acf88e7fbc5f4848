"""Configurations that keepalived refuses, or that no VirtualIP can say: one line for each error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast_api.errors import ConfigurationErrors
from holdfast_testing.keepalived_files import ADDRESS, SCRIPT, addresses, convert_texts, instance


@pytest.fixture
def errors(tmp_path: Path) -> Callable[..., list[str]]:
    """The errors of a strict conversion, without the folder."""

    def run(*texts: str, strict: bool = True) -> list[str]:
        with pytest.raises(ConfigurationErrors) as refused:
            convert_texts(tmp_path, *texts, strict=strict)
        return [str(error).replace(f"{tmp_path}/", "") for error in refused.value.errors]

    return run


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (instance("nonsense 3"), "n1.conf:7: nonsense: is no keyword of vrrp_instance"),
        ("foo_bar {\n}\n", "n1.conf:1: foo_bar: is no keyword of keepalived.conf"),
        (instance("priority 300"), "n1.conf:7: priority: must be a whole number from 1 to 255, not '300'"),
        (instance("priority"), "n1.conf:7: priority: must have a value"),
        (instance("state FOO"), "n1.conf:7: state: must be MASTER or BACKUP, not 'FOO'"),
        (instance("version 4"), "n1.conf:7: version: must be a whole number from 2 to 3, not '4'"),
        (instance("advert_int x"), "n1.conf:7: advert_int: must be seconds from 0.01 to 255, not 'x'"),
        (instance("track_script {", "y", "}"), "n1.conf:8: y: must be the name of a vrrp_script"),
        (
            SCRIPT + instance("track_script {", "chk weight 500", "}"),
            "n1.conf:11: chk: must have a weight from -253 to 253, with or without reverse, not '500'",
        ),
        (
            instance("authentication {", "auth_type PASSX", "auth_pass a", "}"),
            "n1.conf:8: auth_type: must be PASS or AH, not 'PASSX'",
        ),
        (
            instance("unicast_peer {", "fd00::1", "}"),
            "n1.conf:8: fd00::1: must be of the family of the virtual addresses",
        ),
        (instance("unicast_peer {", "10.0.0.2 10.0.0.3", "}"), "n1.conf:8: 10.0.0.2: may be followed by min_ttl N"),
        (instance(interface=""), "n1.conf:1: vrrp_instance VI_1: must have an interface"),
        (
            f"vrrp_instance VI_1 {{\ninterface eth0\n{ADDRESS}\n}}\n",
            "n1.conf:1: vrrp_instance VI_1: must have a virtual_router_id",
        ),
        (
            instance(block=addresses("10.0.0.1.2")),
            "n1.conf:5: address: must be an IPv4 or IPv6 address",
        ),
        (
            instance(block=addresses("10.0.0.1/33")),
            "n1.conf:5: address: must be an IPv4 or IPv6 address",
        ),
        (instance(block=addresses("10.0.0.1", "fd00::1")), "n1.conf:6: address: must be of the family"),
        (
            instance(block=addresses("10.0.0.1 foo")),
            "n1.conf:5: 10.0.0.1: has the unknown option 'foo'",
        ),
        (
            instance(block=addresses("10.0.0.1 dev")),
            "n1.conf:5: 10.0.0.1: must have a value after dev",
        ),
        (
            instance(block=addresses("10.0.0.255/24")),
            "n1.conf:5: spec.addresses[0]: must not be the broadcast address",
        ),
        (instance() + instance(), "n1.conf:8: vrrp_instance VI_1: must not be there twice"),
        (instance() + instance(name="b"), "n1.conf:9: virtual_router_id: must not be 51, which VI_1 has on eth0"),
        (instance() + instance(name="b", vrid=9), "n1.conf:12: 10.77.0.200/24: must be in one VirtualIP alone"),
        ("vrrp_script x {\ninterval 2\n}\n", "n1.conf:1: vrrp_script x: must have a script"),
        ('vrrp_script x {\nscript "/bin/x \'a"\n}\n', "n1.conf:2: script: cannot be split into words"),
        ("vrrp_script x {\nscript /x\nfall 0\n}\n", "n1.conf:3: fall: must be a whole number from 1"),
        ("vrrp_script {\n}\n", "n1.conf:1: vrrp_script: must have one name"),
        (
            instance() + "vrrp_sync_group g {\ngroup {\nVI_9\n}\n}\n",
            "n1.conf:10: group: must have names of vrrp_instances, which 'VI_9' is not",
        ),
        ("virtual_server 10.0.0.1 80 {\n}\n", "n1.conf:1: vrrp_instance: no file has one with a virtual address"),
        (instance("mcast_src_ip 224.0.0.1"), "n1.conf:7: mcast_src_ip: must be an address of the host itself"),
        (instance("nopreempt {", "}"), "n1.conf:7: nopreempt: must not have a block { }"),
        (instance("track_script chk"), "n1.conf:7: track_script: must have a block { }"),
    ],
)
def test_what_keepalived_refuses_or_no_virtual_ip_can_say_is_an_error(
    errors: Callable[..., list[str]], text: str, error: str
) -> None:
    assert any(found.startswith(error) for found in errors(text)), errors(text)


def test_every_error_of_every_file_is_told_at_once(errors: Callable[..., list[str]]) -> None:
    found = errors(instance("priority 0", "state X"), instance("version 9"))
    assert [error.split(": ")[0] for error in found] == ["n1.conf:7", "n1.conf:8", "n2.conf:7"]
