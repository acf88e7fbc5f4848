"""The monitor with real commands: when it reports, and what a new configuration leaves alone."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from holdfast_api.reasons import Health
from holdfast_api.resources import ExecAction, Probe, TCPSocketAction
from holdfast_speaker.health.monitor import HealthMonitor

AMPLE = 30.0
FOREVER = 3600

HEALTHY = (Health.HEALTHY, "")


def probe(script, name="p", **fields):
    fields = {"period_milliseconds": 10, "timeout_seconds": FOREVER, "failure_threshold": 1, **fields}
    return Probe(name=name, exec=ExecAction(command=["/bin/sh", "-c", script]), **fields)


OK = probe("exit 0")
HANGS = probe("exec sleep 3600", name="hangs")


async def until(condition):
    async with asyncio.timeout(AMPLE):
        while not condition():
            await asyncio.sleep(0.005)


def play(scene, probes=None):
    """Run the scene with a monitor, and give back what was reported."""
    reports = []

    async def run():
        monitor = HealthMonitor(probes or {}, lambda *report: reports.append(report))
        try:
            await scene(monitor, reports)
        finally:
            await monitor.close()

    asyncio.run(run())
    return reports


def test_commands_have_the_environment_of_their_virtual_ip(tmp_path):
    async def scene():
        monitor = HealthMonitor(
            {key: [probe(f'echo "$FOR" > {tmp_path}/{key[-1]}')] for key in ("a/x", "a/y")},
            lambda *report: None,
            environment=lambda virtual_ip: {"FOR": virtual_ip},
        )
        try:
            await until(lambda: all(v == (Health.HEALTHY, "") for v in monitor.current().values()))
        finally:
            await monitor.close()

    asyncio.run(scene())
    assert ((tmp_path / "x").read_text(), (tmp_path / "y").read_text()) == ("a/x\n", "a/y\n")


def runs(path):
    """How many lines a script has written so far."""
    return len(path.read_text().splitlines()) if path.exists() else 0


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def files_open():
    return len(list(Path("/proc/self/fd").iterdir()))


def pid_in(path):
    return int(path.read_text()) if path.exists() and path.read_text().strip() else None


def test_health_is_unknown_and_then_what_the_first_result_says():
    async def scene(monitor, reports):
        await until(lambda: len(reports) == 4)

    reports = play(scene, {"a/good": [OK], "a/bad": [probe("echo broken >&2; exit 1")]})
    assert reports[:2] == [
        ("a/good", Health.UNKNOWN, "no result yet of probe p"),
        ("a/bad", Health.UNKNOWN, "no result yet of probe p"),
    ]
    assert sorted(reports[2:]) == [
        ("a/bad", Health.FAILING, "probe p: exit status 1: broken"),
        ("a/good", Health.HEALTHY, ""),
    ]


def test_the_first_run_does_not_wait_for_a_period():
    async def scene(monitor, reports):
        await until(lambda: monitor.current() == {"a/web": HEALTHY})

    play(scene, {"a/web": [probe("exit 0", period_milliseconds=3_600_000)]})


def test_changes_of_health_and_of_its_reason_are_reported_and_nothing_else(tmp_path):
    state = tmp_path / "state"
    state.write_text("")

    async def scene(monitor, reports):
        await until(lambda: monitor.current() == {"a/web": HEALTHY})
        for text in ("refused", "timed out", ""):
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").replace(state)
            before = len(reports)
            await until(lambda before=before: len(reports) > before)

    reports = play(scene, {"a/web": [probe(f'said=$(cat {state}); echo "$said" >&2; test -z "$said"')]})
    assert reports[1:] == [
        ("a/web", Health.HEALTHY, ""),
        ("a/web", Health.FAILING, "probe p: exit status 1: refused"),
        ("a/web", Health.FAILING, "probe p: exit status 1: timed out"),
        ("a/web", Health.HEALTHY, ""),
    ]


def test_failures_below_the_threshold_are_not_reported(tmp_path):
    # Fails every second time, which is never twice in a row.
    script = f"echo >> {tmp_path}/runs; test $(( $(wc -l < {tmp_path}/runs) % 2 )) -eq 1"

    async def scene(monitor, reports):
        await until(lambda: runs(tmp_path / "runs") > 10)

    reports = play(scene, {"a/web": [probe(script, failure_threshold=2)]})
    assert reports[1:] == [("a/web", Health.HEALTHY, "")]


def test_a_slow_probe_never_runs_twice_at_the_same_time(tmp_path):
    script = (
        f"mkdir {tmp_path}/running || echo twice >> {tmp_path}/bad;"
        f" echo >> {tmp_path}/runs; sleep 0.05; rmdir {tmp_path}/running"
    )

    async def scene(monitor, reports):
        await until(lambda: runs(tmp_path / "runs") > 5)

    play(scene, {"a/web": [probe(script)]})
    assert not (tmp_path / "bad").exists()


def test_a_hung_probe_holds_up_no_other():
    async def scene(monitor, reports):
        await until(lambda: monitor.current().get("a/web") == HEALTHY)
        assert monitor.current()["a/hung"][0] is Health.UNKNOWN

    play(scene, {"a/hung": [HANGS], "a/web": [OK]})


def test_a_new_configuration_leaves_equal_probes_undisturbed(tmp_path):
    hanging = probe(f"echo $$ >> {tmp_path}/pids; exec sleep 3600")

    async def scene(monitor, reports):
        await until(lambda: runs(tmp_path / "pids") == 1)
        twin = probe(f"echo $$ >> {tmp_path}/pids; exec sleep 3600")
        monitor.replace({"a/web": [twin], "a/new": [OK]})
        await until(lambda: monitor.current().get("a/new") == HEALTHY)
        assert alive(int((tmp_path / "pids").read_text()))

    play(scene, {"a/web": [hanging]})
    assert runs(tmp_path / "pids") == 1


def test_a_removed_probe_is_stopped_and_its_command_killed(tmp_path):
    async def scene(monitor, reports):
        await until(lambda: pid_in(tmp_path / "pid"))
        monitor.replace({})
        await until(lambda: not alive(pid_in(tmp_path / "pid")))
        assert monitor.current() == {}

    play(scene, {"a/web": [probe(f"echo $$ > {tmp_path}/pid; exec sleep 3600")]})


def test_an_edited_probe_keeps_the_health_until_results_speak_against_it(tmp_path):
    async def scene(monitor, reports):
        await until(lambda: monitor.current() == {"a/web": HEALTHY})
        monitor.replace({"a/web": [probe("exec sleep 3600")]})
        assert monitor.current() == {"a/web": HEALTHY}
        monitor.replace({"a/web": [probe(f"echo >> {tmp_path}/runs; exit 1", failure_threshold=3)]})
        await until(lambda: monitor.current()["a/web"][0] is Health.FAILING)
        assert runs(tmp_path / "runs") >= 3

    reports = play(scene, {"a/web": [OK]})
    assert [health for _, health, _ in reports] == [Health.UNKNOWN, Health.HEALTHY, Health.FAILING]


def test_an_added_probe_does_not_make_a_known_health_unknown():
    async def scene(monitor, reports):
        await until(lambda: monitor.current() == {"a/web": HEALTHY})
        monitor.replace({"a/web": [OK, HANGS]})
        assert monitor.current() == {"a/web": HEALTHY}

    reports = play(scene, {"a/web": [OK]})
    assert [health for _, health, _ in reports] == [Health.UNKNOWN, Health.HEALTHY]


def test_an_added_probe_that_fails_counts_at_once():
    async def scene(monitor, reports):
        await until(lambda: monitor.current() == {"a/web": HEALTHY})
        monitor.replace({"a/web": [OK, probe("exit 7", name="added", failure_threshold=1000)]})
        await until(lambda: monitor.current()["a/web"] == (Health.FAILING, "probe added: exit status 7"))

    play(scene, {"a/web": [OK]})


def test_a_failing_probe_that_is_removed_fails_no_more():
    async def scene(monitor, reports):
        await until(lambda: monitor.current()["a/web"][0] is Health.FAILING)
        await until(lambda: reports[-1] == ("a/web", Health.FAILING, "probe bad: exit status 1"))
        # The other has its result by then, or gets it now.
        monitor.replace({"a/web": [OK]})
        await until(lambda: monitor.current() == {"a/web": HEALTHY})

    play(scene, {"a/web": [OK, probe("exit 1", name="bad")]})


def test_after_close_nothing_runs_and_nothing_is_reported(tmp_path):
    async def scene(monitor, reports):
        await until(lambda: pid_in(tmp_path / "pid"))
        await until(lambda: runs(tmp_path / "runs") > 1)
        await monitor.close()
        assert not alive(pid_in(tmp_path / "pid"))
        seen = runs(tmp_path / "runs"), len(reports)
        await asyncio.sleep(0.1)
        assert (runs(tmp_path / "runs"), len(reports)) == seen

    play(
        scene,
        {
            "a/hung": [probe(f"echo $$ > {tmp_path}/pid; exec sleep 3600")],
            "a/web": [probe(f"echo >> {tmp_path}/runs")],
        },
    )


def test_processes_and_files_do_not_pile_up(tmp_path):
    async def scene(monitor, reports):
        await until(lambda: runs(tmp_path / "runs") > 2)
        before = files_open()
        await until(lambda: runs(tmp_path / "runs") > 30)
        assert files_open() <= before + 2  # one run's own pipe and pidfd

    play(scene, {"a/web": [probe(f"echo >> {tmp_path}/runs; exit 1")]})
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert all("runs" not in Path(f"/proc/{child}/cmdline").read_text() for child in children)


def test_a_probe_that_this_host_has_no_means_to_run_keeps_its_verdict_and_that_is_told_once(
    tmp_path, monkeypatch, caplog
):
    real, refused = subprocess.Popen, []

    def exhausted(*words, **options):
        if not (tmp_path / "exhausted").exists():
            return real(*words, **options)
        refused.append(words)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(subprocess, "Popen", exhausted)

    async def scene(monitor, reports):
        await until(lambda: monitor.current() == {"a/web": HEALTHY})
        for times in (1, 2):
            (tmp_path / "exhausted").touch()
            await until(lambda: len(refused) > 5)
            (tmp_path / "exhausted").unlink()
            refused.clear()
            ran = runs(tmp_path / "runs")
            await until(lambda ran=ran: runs(tmp_path / "runs") > ran + 1)
            assert caplog.text.count("probe p of a/web cannot be run") == times

    reports = play(scene, {"a/web": [probe(f"echo >> {tmp_path}/runs")]})
    assert reports[1:] == [("a/web", Health.HEALTHY, "")]


def test_names_that_are_not_found_in_time_hold_up_no_other_probe_and_not_the_end(monkeypatch):
    """A name server that does not answer: each of these lookups takes its time."""
    real, answered = socket.getaddrinfo, threading.Event()

    def getaddrinfo(host, *arguments, **options):
        if host.endswith(".example"):
            answered.wait(AMPLE)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)

    def connecting(host, port):
        action = TCPSocketAction(host=host, port=port)
        return Probe(name="p", tcp_socket=action, period_milliseconds=50, failure_threshold=1)

    async def scene(monitor, reports):
        await until(
            lambda: len([key for key, (health, _) in monitor.current().items() if health is Health.FAILING]) == 40
        )
        seen = len(answers)
        await until(lambda: len(answers) > seen + 3)
        assert monitor.current()["a/here"] == HEALTHY

    answers = []
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    answers.append(server.accept()[0].close())

        threading.Thread(target=accept, daemon=True).start()
        slow = {f"a/slow{number}": [connecting(f"slow{number}.example", 1)] for number in range(40)}
        reports = play(scene, {**slow, "a/here": [connecting("localhost", server.getsockname()[1])]})
        server.shutdown(socket.SHUT_RDWR)
    assert not answered.is_set(), "nobody waited for what is still being looked up"
    answered.set()
    assert [report for report in reports if report[0] == "a/here"][1:] == [("a/here", Health.HEALTHY, "")]


def test_an_error_in_the_program_is_raised_in_its_owner_and_logged(caplog):
    async def scene():
        def report(key, health, detail):
            if health is Health.HEALTHY:
                raise ZeroDivisionError("a bug in whoever listens")

        monitor = HealthMonitor({"a/web": [OK]}, report)
        try:
            async with asyncio.timeout(AMPLE):
                await monitor.watch()
        finally:
            await monitor.close()

    with caplog.at_level(logging.CRITICAL), pytest.raises(ZeroDivisionError, match="whoever listens"):
        asyncio.run(scene())
    assert "probe p of a/web died" in caplog.text


def test_a_probe_without_an_action_is_an_error_in_the_program():
    async def scene(monitor, reports):
        with pytest.raises(AssertionError, match="probe empty has no action"):
            async with asyncio.timeout(AMPLE):
                await monitor.watch()

    play(scene, {"a/web": [Probe(name="empty")]})


def test_watching_ends_with_the_watcher_and_not_before():
    async def scene(monitor, reports):
        watcher = asyncio.create_task(monitor.watch())
        await until(lambda: monitor.current() == {"a/web": HEALTHY})
        assert not watcher.done()
        watcher.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watcher

    play(scene, {"a/web": [OK]})
