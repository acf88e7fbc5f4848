"""The process as Kubernetes starts it: its options, its exit status, its last words."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path

import pytest
import yaml

from holdfast_operator.__main__ import command
from holdfast_testing.fake_api import FakeAPI
from holdfast_testing.operator_world import WATCHES, populate, until

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "operator.md"
LEASE = "holdfast-system/holdfast-operator"


async def start(*arguments, kubeconfig="/nonexistent", **environment):
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("KUBE", "HOLDFAST", "POD"))}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "holdfast_operator",
        *arguments,
        env={**inherited, "PYTHONPATH": os.pathsep.join(sys.path), "KUBECONFIG": str(kubeconfig), **environment},
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


def ended(*arguments, **environment):
    """Exit status, and what it said on both streams."""

    async def run():
        process = await start(*arguments, **environment)
        out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    return asyncio.run(run())


def kubeconfig_for(fake, folder: Path) -> Path:
    path = folder / "kubeconfig"
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "fake", "cluster": {"server": fake.url}}],
                "users": [{"name": "me", "user": {}}],
                "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
                "current-context": "fake",
            }
        )
    )
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nonsense"], "No such option"),
        (["--namespace", "X"], "--namespace: 'X' is no name of a namespace"),
        (
            ["--namespace", "x", "--health-address", "8080"],
            ":PORT, and is '8080'",
        ),
        (["--log-format", "xml"], "'--log-format': 'xml' is not one of 'text', 'json'"),
        (["--namespace", "x"], "holdfast-operator: /nonexistent: no such file"),
    ],
)
def test_what_is_wrong_with_the_start_is_one_line_and_status_2(arguments, words):
    status, out, err = ended(*arguments)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert words in err


def test_help_names_every_option():
    status, out, _ = ended("--help")
    assert status == 0
    for parameter in command.params:
        assert parameter.opts[0] in out


def test_the_page_has_every_option_with_its_environment_and_default():
    rows = re.findall(r"^\| `(--[\w-]+)` \| ([^|]*) \| ([^|]*) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    documented = {option: (re.findall(r"`(\w+)`", names), default.strip("`")) for option, names, default in rows}
    expected = {}
    for parameter in command.params:
        if parameter.name == "version":
            continue
        names = parameter.envvar or f"HOLDFAST_OPERATOR_{parameter.name.upper()}"
        default = parameter.default if isinstance(parameter.default, str) else "the pod's own"
        expected[parameter.opts[0]] = ([names] if isinstance(names, str) else list(names), default)
    assert documented == expected


def test_it_does_its_work_and_ends_well_on_sigterm(tmp_path):
    async def scene():
        async with FakeAPI() as fake:
            populate(fake)
            process = await start(
                kubeconfig=kubeconfig_for(fake, tmp_path),
                POD_NAMESPACE="holdfast-system",
                POD_NAME="operator-1",
                HOLDFAST_OPERATOR_HEALTH_ADDRESS="127.0.0.1:0",
                HOLDFAST_OPERATOR_LOG_FORMAT="json",
            )
            await until(lambda: (fake.get("virtualips", "shop/web") or {}).get("status"))
            await until(lambda: fake.watch_count == WATCHES)
            assert fake.get("leases", LEASE)["spec"]["holderIdentity"].startswith("operator-1_")
            process.send_signal(signal.SIGTERM)
            _, err = await process.communicate()
            assert process.returncode == 0, err
            assert fake.get("leases", LEASE)["spec"]["holderIdentity"] == ""
            assert all(line.startswith(b'{"time":') for line in err.splitlines()), err

    asyncio.run(scene())


def test_a_watch_that_breaks_is_told_once_and_ends_with_status_1(tmp_path):
    async def scene():
        async with FakeAPI() as fake:
            populate(fake)
            process = await start(
                "--namespace",
                "holdfast-system",
                "--health-address",
                "127.0.0.1:0",
                kubeconfig=kubeconfig_for(fake, tmp_path),
            )
            await until(lambda: fake.watch_count == WATCHES)
            await fake.say_in_watches({"type": "ERROR", "object": {"kind": "Status", "code": 500}})
            _, err = await process.communicate()
            assert process.returncode == 1, err
            assert len([line for line in err.splitlines() if b" error the watches have ended: " in line]) == 1

    asyncio.run(scene())
