"""The demo's scenes with keepalived as the other host: a migration that is half done, in both directions.

What keepalived does is its own, and told in docs/interop.md; Holdfast keeps every promise that one host can.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from holdfast_api.documents import read_text
from holdfast_lab.lab import Lab
from holdfast_lab.plan import plan_lab
from holdfast_lab.player import Player
from holdfast_lab.scenes import Pace, scenes
from holdfast_lab.script import write_script
from holdfast_lab.stage import Stage
from holdfast_testing.keepalived import require_keepalived
from holdfast_testing.keepalived_files import convert_texts
from holdfast_testing.transcript import Transcript

pytestmark = [pytest.mark.netns, pytest.mark.alone]

FAST = {
    "global_defs {\n": "global_defs {\n    vrrp_version 3\n",
    "advert_int 1\n": "advert_int 0.1\n",
    "interval 2\n": "interval 1\n",
    "    authentication {\n        auth_type PASS\n        auth_pass 1111\n    }\n": "",
}
"""The demo's configurations at 100 ms, which VRRPv2 and its password cannot say."""


KEEPS_THE_ADDRESS = "kept the address|left the frozen host only after"

BROKEN = {
    # keepalived ignores its nopreempt together with `state MASTER`, and takes the VIP back.
    ("n1", -2): {2: "it moved; n1 holds", 7: KEEPS_THE_ADDRESS, 8: "n1 holds"},
    # A priority of 97 says to nobody that the services behind it fail.
    ("n2", -2): {3: "n2 holds", 4: "n2 holds", 7: KEEPS_THE_ADDRESS},
    # One below 50 does.
    ("n2", -60): {7: KEEPS_THE_ADDRESS},
}
"""By the host with keepalived and the weight of its script: the promises that keepalived breaks, by their scenes."""


class Story:
    """Every scene once: the demo's keepalived configuration on one host, what it is converted to on the other."""

    def __init__(self, folder: Path, keepalived_on: str, weight: int) -> None:
        texts = {}
        for host, example in write_script(release=False).configurations.items():
            text = example.read_text(encoding="utf-8").replace("weight -2", f"weight {weight}")
            for before, after in FAST.items():
                text = text.replace(before, after)
            texts[host] = text
        converted = folder / "virtual-ips.yaml"
        converted.write_text(convert_texts(folder, *texts.values()).yaml, encoding="utf-8")
        documents = read_text(converted.read_text(encoding="utf-8"), str(converted))
        files = {host: folder / f"{host}.conf" if host == keepalived_on else converted for host in texts}
        spec = documents[0].virtual_ip.spec
        self.interval_ms = spec.advertisement_interval_milliseconds
        self.transcript = Transcript()
        name = f"mixed-{keepalived_on}-{os.getpid()}"
        plan = plan_lab(documents, list(files))
        lab = Lab.create(name, plan, lambda host: [files[host]], keepalived_on=[keepalived_on])
        try:
            stage = Stage(lab)
            player = Player([stage], self.transcript)
            assert player.wait_for_holder("n1", 20), str(self.transcript)
            told = scenes("n1", "n2", Pace.of(spec), spec.track.when_failing)
            self.verdicts = {number: player.play(number, scene)[0] for number, scene in enumerate(told, start=1)}
            stage.close()
        finally:
            lab.down()


@pytest.fixture(scope="module", params=BROKEN, ids=lambda param: f"{param[0]}{param[1]}")
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Story, dict[int, str]]:
    require_keepalived()
    return Story(tmp_path_factory.mktemp("story"), *request.param), BROKEN[request.param]


def test_every_promise_is_kept_but_those_that_keepalived_breaks(story: tuple[Story, dict[int, str]]) -> None:
    played, broken = story
    # keepalived advertises before it has the address; the Holdfast that steps aside for it lets go some ms too early.
    complaints = {
        number: "; ".join(told for told in verdict.complaints if not told.endswith("probes lost"))
        for number, verdict in played.verdicts.items()
    }
    assert {number for number, complaint in complaints.items() if complaint} == set(broken), str(played.transcript)
    for number, pattern in broken.items():
        assert re.search(pattern, complaints[number]), str(played.transcript)


def test_no_probe_is_lost_but_when_power_or_keepalived_fails(story: tuple[Story, dict[int, str]]) -> None:
    played, _ = story
    outages = {number: verdict.measurement.longest_outage_ms for number, verdict in played.verdicts.items()}
    assert outages.pop(1) < 4 * played.interval_ms + 500, str(played.transcript)
    assert max(outages.values()) < 100, str(played.transcript)
