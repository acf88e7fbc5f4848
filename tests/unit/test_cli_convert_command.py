"""`holdfast convert` as a command: names, files, exit status, and the configurations that come with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from holdfast_api.documents import read_text
from holdfast_api.resources import Transport, VirtualIP
from holdfast_cli.convert import Conversion, Input, convert, keywords

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "keepalived"
DATA = ROOT / "tests" / "data" / "keepalived"


def holdfast(*words: str | Path, piped: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "holdfast_cli.main", "convert", *map(str, words)]
    return subprocess.run(command, text=True, input=piped, capture_output=True, check=False)


def virtual_ips(conversion: Conversion) -> dict[str, VirtualIP]:
    return {made.virtual_ip.metadata.name: made.virtual_ip for made in conversion.converted}


def minimal(folder: Path, name: str, router_id: str = "") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"global_defs {{\n{f'router_id {router_id}' if router_id else ''}\n}}\n"
        "vrrp_instance VI_1 {\ninterface eth0\nvirtual_router_id 51\nvirtual_ipaddress {\n10.77.0.200/24\n}\n}\n"
    )
    return path


def nodes(*inputs: Input) -> list[str]:
    (made,) = convert(inputs).converted
    return [node.node_name for node in made.virtual_ip.spec.nodes.priorities]


def test_the_story_s_configurations_become_one_virtual_ip_and_three_sentences() -> None:
    finished = holdfast(EXAMPLES / "n1.conf", EXAMPLES / "n2.conf")
    assert finished.returncode == 0
    (document,) = read_text(finished.stdout, "stdout")
    spec = document.virtual_ip.spec
    assert document.virtual_ip.metadata.name == "vi-1"
    assert spec.addresses == ["10.77.0.200/24"]
    assert (spec.version, spec.virtual_router_id, spec.interface) == (2, 51, "eth0")
    assert spec.nopreempt is True
    assert spec.advertisement_interval_milliseconds == 1000
    assert spec.transport is Transport.MULTICAST
    assert [(node.node_name, node.priority) for node in spec.nodes.priorities] == [("n1", 100), ("n2", 99)]
    assert spec.authentication is not None
    assert spec.authentication.simple_password == "1111"
    (probe,) = spec.track.probes
    assert probe.exec is not None
    assert probe.exec.command == ["/bin/bash", "-c", "</dev/tcp/127.0.0.1/80"]
    assert (probe.period_ms, probe.failure_threshold, probe.success_threshold) == (2000, 1, 1)
    assert (
        "n1.conf:21: nopreempt: differs: keepalived ignores nopreempt together with `state MASTER`" in finished.stderr
    )
    weighed = ": check_service: differs: weight -2: where nopreempt is in force"
    (told,) = [line for line in finished.stderr.splitlines() if weighed in line]
    assert "n1.conf:30 " in told.partition(weighed)[0]
    assert "n2.conf:15: vrrp_instance: differs: n2 has no nopreempt" in finished.stderr


def test_the_two_gateways_become_two_virtual_ips_that_fail_together() -> None:
    conversion = convert([Input(DATA / "gateway-a.conf"), Input(DATA / "gateway-b.conf")])
    made = virtual_ips(conversion)
    outside, inside = made["outside4"].spec, made["inside4"].spec
    assert outside.addresses == [f"10.77.0.{last}/24" for last in range(200, 204)]
    assert inside.addresses == ["10.78.0.1/24", "10.78.0.2/24"]
    assert outside.track.interfaces == ["lo", "eth1"]
    assert inside.track.interfaces == ["lo", "eth0"]
    assert outside.track.probes == inside.track.probes
    assert (outside.transport, inside.transport) == (Transport.UNICAST, Transport.MULTICAST)
    assert sorted(outside.external_peers) == ["10.77.0.1", "10.77.0.2"]
    assert [(node.node_name, node.address) for node in outside.nodes.source_addresses] == [
        ("gw-a", "10.77.0.1"),
        ("gw-b", "10.77.0.2"),
    ]
    assert [(node.node_name, node.priority) for node in outside.nodes.priorities] == [("gw-a", 120), ("gw-b", 110)]


def test_one_template_for_three_hosts_is_read_once_for_each() -> None:
    template = DATA / "template.conf"
    conversion = convert([Input(template, name) for name in ("alpha", "beta", "gamma")])
    made = virtual_ips(conversion)
    assert sorted(made) == ["first", "second"]
    assert [(node.node_name, node.priority) for node in made["second"].spec.nodes.priorities] == [
        ("alpha", 52),
        ("beta", 51),
        ("gamma", 50),
    ]
    assert made["first"].spec.virtual_router_id == 61
    assert [probe.name for probe in made["first"].spec.track.probes] == ["chk_dns"]


def test_hosts_are_named_by_router_id_file_or_folder_whichever_tells_them_apart(tmp_path: Path) -> None:
    one, two = minimal(tmp_path, "a.conf", "lvs"), minimal(tmp_path, "b.conf", "lvs2")
    assert nodes(Input(one), Input(two)) == ["lvs", "lvs2"]
    one, two = minimal(tmp_path, "a.conf", "same"), minimal(tmp_path, "b.conf", "same")
    assert nodes(Input(one), Input(two)) == ["a", "b"]
    one, two = minimal(tmp_path, "x/keepalived.conf"), minimal(tmp_path, "y/keepalived.conf")
    assert nodes(Input(one), Input(two)) == ["x", "y"]
    assert nodes(Input(one, "given"), Input(two)) == ["given", "y"]


def test_names_are_given_with_the_file_or_as_an_option(tmp_path: Path) -> None:
    one, two = minimal(tmp_path, "a.conf"), minimal(tmp_path, "with=sign.conf", "r")
    for words in ((f"n1={one}", f"n2={two}"), ("--node", "n1", "--node", "n2", one, two)):
        finished = holdfast(*words)
        assert finished.returncode == 0, finished.stderr
        assert "names: [n1, n2]" in finished.stdout
    assert "nodeName: r" in holdfast(two).stdout


def test_the_config_id_is_an_option_as_in_keepalived() -> None:
    finished = holdfast("-i", "gamma", DATA / "template.conf")
    assert finished.returncode == 0
    assert "{nodeName: gamma, priority: 50}" in finished.stdout
    assert "nopreempt: false" in finished.stdout


def test_output_goes_to_a_file_and_the_report_to_stderr(tmp_path: Path) -> None:
    output = tmp_path / "vip.yaml"
    finished = holdfast(EXAMPLES / "n1.conf", EXAMPLES / "n2.conf", "-o", output)
    assert (finished.returncode, finished.stdout) == (0, "")
    assert len(read_text(output.read_text(encoding="utf-8"), "vip.yaml")) == 1
    assert finished.stderr.splitlines()[-1] == "VirtualIPs 1, files 2: differs 6, left out 2, note 1"


@pytest.mark.parametrize(
    "text",
    [
        (EXAMPLES / "n1.conf").read_text(encoding="utf-8"),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kubevip, namespace: kube-system}\n"
        "data: {range-global: 192.168.0.200-192.168.0.210}\n",
    ],
)
def test_what_comes_through_a_pipe_is_converted_as_from_a_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "file"
    file.write_text(text, encoding="utf-8")
    piped, read = holdfast("n1=/dev/stdin", piped=text), holdfast(f"n1={file}")
    assert (piped.returncode, piped.stderr) == (0, read.stderr.replace(str(file), "/dev/stdin"))
    assert piped.stdout == read.stdout


def test_bad_input_ends_with_2_and_writes_nothing(tmp_path: Path) -> None:
    bad = tmp_path / "bad.conf"
    bad.write_text("vrrp_instance VI_1 {\ninterface eth0\npriority 999\n}\n")
    output = tmp_path / "vip.yaml"
    output.write_text("of before")
    finished = holdfast(bad, "-o", output)
    assert (finished.returncode, finished.stdout, output.read_text()) == (2, "", "of before")
    assert finished.stderr.splitlines() == [
        f"error: {bad}:1: vrrp_instance VI_1: must have a virtual_router_id",
    ]
    strict = holdfast("--strict", bad, "-o", output)
    assert (strict.returncode, strict.stdout, output.read_text()) == (2, "", "of before")
    assert strict.stderr.splitlines() == [
        f"error: {bad}:3: priority: must be a whole number from 1 to 255, not '999'",
        f"error: {bad}:1: vrrp_instance VI_1: must have a virtual_router_id",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["missing.conf"], "error: missing.conf: cannot be read: No such file or directory"),
        (["--node", "n1", "a.conf", "b.conf"], "must be given once for each FILE: 2 times, not 1"),
        ([], "Missing argument"),
        (
            [f"n1={EXAMPLES / 'n1.conf'}", f"n1={EXAMPLES / 'n2.conf'}"],
            "error: node name: must be different for each file",
        ),
    ],
)
def test_bad_arguments_end_with_2_and_a_clear_line(words: list[str], message: str) -> None:
    finished = holdfast(*words)
    assert finished.returncode == 2
    assert message in finished.stderr


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    finished = holdfast(EXAMPLES / "n1.conf", "-o", tmp_path / "missing" / "vip.yaml")
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].endswith("vip.yaml cannot be written: No such file or directory")


def test_help_has_an_example() -> None:
    finished = holdfast("--help")
    assert finished.returncode == 0
    assert "holdfast convert n1=" in finished.stdout


def test_the_documentation_has_every_keyword() -> None:
    text = (ROOT / "docs" / "convert.md").read_text(encoding="utf-8")
    tables = (
        keywords.TOP_LEVEL,
        keywords.GLOBAL,
        keywords.INSTANCE,
        keywords.SCRIPT,
        keywords.SYNC_GROUP,
        keywords.ADDRESS_OPTIONS,
        keywords.ADDRESS_OPTIONS_WITH_VALUE,
    )
    assert [
        (keyword, sentence) for table in tables for keyword, sentence in table.items() if f"`{keyword}`" not in text
    ] == []
    assert [sentence for table in tables for sentence in table.values() if f"| {sentence} |" not in text] == []
