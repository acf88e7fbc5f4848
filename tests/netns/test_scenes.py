"""The seed's story: eight scenes in a VIP's life, each judged by what a client saw and what the kernels had."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from holdfast_api.documents import read_text, write_text
from holdfast_lab.lab import Lab
from holdfast_lab.plan import plan_lab
from holdfast_lab.player import Player
from holdfast_lab.scenes import FENCE_MS, Pace, scenes
from holdfast_lab.script import write_script
from holdfast_lab.stage import Stage
from holdfast_testing.transcript import Transcript

pytestmark = [pytest.mark.netns, pytest.mark.alone]

FAST_IPV6 = """
apiVersion: holdfast.dev/v1alpha1
kind: VirtualIP
metadata: {name: web}
spec:
  addresses: ["fd77::200/64"]
  virtualRouterID: 51
  advertisementIntervalMilliseconds: 100
  nodes: {priorities: [{nodeName: n1, priority: 100}, {nodeName: n2, priority: 99}]}
  track:
    probes: [{name: web, tcpSocket: {port: 80}, periodMilliseconds: 100, failureThreshold: 2, successThreshold: 2}]
"""
FAST_RELEASE = FAST_IPV6.replace("fd77::200/64", "10.77.0.200/24").replace(
    "  track:", "  track:\n    whenFailing: Release"
)


def article():
    """As a well-known article configures keepalived on two hosts, converted."""
    return write_text(list(write_script(release=False).virtual_ips))


STORIES = {"article": article, "fast-ipv6": lambda: FAST_IPV6}


class Story:
    """One lab on which scenes were played once, in order: all of them, or those of these numbers."""

    def __init__(self, text, name, folder, numbers=range(1, 9)):
        file = folder / "vip.yaml"
        file.write_text(text)
        documents = read_text(text, str(file))
        spec = documents[0].virtual_ip.spec
        self.interval_ms = spec.advertisement_interval_milliseconds
        self.transcript = Transcript()
        all_scenes = scenes("n1", "n2", Pace.of(spec), spec.track.when_failing)
        lab = Lab.create(name, plan_lab(documents), lambda _: [file])
        try:
            stage = Stage(lab)
            player = Player([stage], self.transcript)
            assert player.wait_for_holder("n1", 20), str(self.transcript)
            self.verdicts = {number: player.play(number, all_scenes[number - 1])[0] for number in numbers}
            stage.close()
        finally:
            lab.down()

    def __getitem__(self, number):
        verdict = self.verdicts[number]
        assert verdict.kept, "\n".join([*verdict.complaints, str(self.transcript)])
        return verdict


@pytest.fixture(scope="module", params=STORIES)
def story(request, tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("story")
    return Story(STORIES[request.param](), f"scenes-{request.param}-{os.getpid()}", folder)


def test_1_when_the_holder_loses_power_the_other_takes_over_within_four_intervals(story):
    assert story[1].measurement.longest_outage_ms < 4 * story.interval_ms + 500


def test_2_a_node_that_returns_moves_nothing(story):
    assert story[2].measurement.lost == 0


def test_3_a_failed_service_moves_the_vip_to_where_it_is_served(story):
    assert story[3].measurement.longest_outage_ms < 100


def test_4_a_service_that_returns_moves_nothing(story):
    assert story[4].measurement.lost == 0


def test_5_when_the_services_fail_everywhere_somebody_still_holds(story):
    assert story[5].measurement.longest_outage_ms < 100


def test_6_when_both_services_return_nothing_moves(story):
    assert story[6].measurement.lost == 0


def test_7_a_frozen_holder_loses_the_address_by_itself_and_its_thaw_is_quiet(story):
    seen = story[7].observation
    assert seen.left_after_ms < FENCE_MS + 250
    assert seen.measurement.longest_outage_ms < 4 * story.interval_ms + 500


def test_8_a_planned_switchover_loses_nothing(story):
    assert story[8].measurement.lost == 0


def test_but_for_a_freeze_and_a_hand_over_no_two_hosts_have_the_address(story):
    for number in (1, 2, 3, 4, 5, 6, 8):
        assert story[number].observation.shared_ms < 200, str(story.transcript)


def test_with_release_nobody_holds_while_all_services_fail_and_somebody_does_again(tmp_path):
    story = Story(FAST_RELEASE, f"scenes-release-{os.getpid()}", tmp_path, numbers=(5, 6))
    assert story[5].observation.holder is None
    assert story[6].observation.holder is not None
