"""The command that runs Kubernetes' own tests of load balancers: what it is told, and what it says of a report."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast_testing.kind_cluster import ClusterError
from holdfast_testing.kubernetes_e2e import FOCUS, Result, arguments, junit, read_report, summary

NAME = "[sig-network] LoadBalancers should work"
REPORT = f"""<?xml version="1.0"?>
<testsuites><testsuite>
  <testcase name="[It] [sig-node] Pods should run" status="skipped" time="0"><skipped message="skipped"/></testcase>
  <testcase name="[It] {NAME} from pods" status="skipped" time="0"><skipped message="skipped"/></testcase>
  {{case}}
</testsuite></testsuites>
"""


def reported(folder: Path, case: str) -> Path:
    path = folder / "report.xml"
    path.write_text(REPORT.format(case=case), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("case", "state", "message"),
    [
        (f'<testcase name="[It] {NAME}" status="passed" time="12.5"/>', "passed", ""),
        (
            f'<testcase name="[It] {NAME}" status="failed" time="12.5"><failure message="no answer"/></testcase>',
            "failed",
            "no answer",
        ),
        (
            f'<testcase name="[It] {NAME}" status="skipped" time="12.5"><skipped message="skipped - few"/></testcase>',
            "skipped",
            "skipped - few",
        ),
    ],
)
def test_a_report_tells_how_the_spec_went_that_was_asked_for(
    tmp_path: Path, case: str, state: str, message: str
) -> None:
    assert read_report(reported(tmp_path, case), NAME) == Result(NAME, state, 12.5, message)


def test_a_suite_that_could_not_begin_says_why(tmp_path: Path) -> None:
    case = (
        '<testcase name="[SynchronizedBeforeSuite]" status="failed" time="1"><failure message="no nodes"/></testcase>'
    )
    with pytest.raises(ClusterError, match="no nodes"):
        read_report(reported(tmp_path, case), NAME)
    with pytest.raises(ClusterError, match="no report"):
        read_report(tmp_path / "absent.xml", NAME)


def test_the_summary_counts_what_passed_and_tells_the_reason_of_what_did_not() -> None:
    told = summary(
        [Result(NAME, "passed", 1, figures=("0 of 9 requests failed",)), Result("b", "failed", 2, "why")], "T"
    )
    assert f"| {NAME} | passed | 1 | 0 of 9 requests failed |" in told
    assert "| b | **failed**: why | 2 |  |" in told
    assert "1 of 2 passed." in told


def test_one_report_has_each_spec_once(tmp_path: Path) -> None:
    path = reported(tmp_path, f'<testcase name="[It] {NAME}" status="passed" time="12.5"/>')
    suite = junit([path, tmp_path / "absent.xml"], [NAME, "not run"]).getroot()
    assert suite is not None
    assert [case.get("status") for case in suite] == ["passed"]
    assert suite.get("failures") == "0"


@pytest.mark.parametrize("words", [["--parallel", "0"], ["--parallel", "many"], ["--provider", "gce"]])
def test_a_wrong_argument_is_told_and_nothing_is_run(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        arguments(words)
    assert ended.value.code == 2


def test_by_default_every_spec_of_load_balancers_is_asked_for() -> None:
    assert arguments([]).focus == FOCUS
    assert re.search(FOCUS, "[sig-network] LoadBalancers ExternalTrafficPolicy: Local should work from pods")


def test_the_tests_are_of_the_release_that_the_cluster_runs(root: Path) -> None:
    tools = root / "tests" / "e2e" / "cluster" / "tools"

    def pinned(folder: str) -> set[str]:
        text = (tools / folder / "go.mod").read_text(encoding="utf-8")
        return set(re.findall(r"^\s*(k8s\.io/kubernetes v\S+|k8s\.io/\S+ => .*)$", text, re.MULTILINE))

    assert pinned("kubernetes-e2e") >= pinned("kubernetes")
    assert len(pinned("kubernetes")) > 20
