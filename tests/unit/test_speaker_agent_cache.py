from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from holdfast_api.cluster import SpeakerConfigSpec
from holdfast_api.reasons import Health
from holdfast_speaker.agent import alive
from holdfast_speaker.agent.cache import Cache, KeptConfiguration
from holdfast_speaker.agent.pods import Verdict

KEPT = KeptConfiguration(uid="u", generation=3, spec=SpeakerConfigSpec(node_name="n1"))


def test_what_was_kept_is_found_by_the_next_process(tmp_path):
    Cache(tmp_path).save_configuration(KEPT)
    Cache(tmp_path).save_health({"shop/web": Verdict(Health.FAILING, "why")})
    assert Cache(tmp_path).load_configuration() == KEPT
    assert Cache(tmp_path).load_health() == {"shop/web": Verdict(Health.FAILING, "why")}


def test_a_configuration_is_nobody_elses_to_read(tmp_path):
    Cache(tmp_path).save_configuration(KEPT)
    assert (tmp_path / "speaker-config.json").stat().st_mode & 0o777 == 0o600


def test_an_empty_cache_knows_nothing(tmp_path):
    assert Cache(tmp_path).load_configuration() is None
    assert Cache(tmp_path).load_health() == {}


@pytest.mark.parametrize("content", ["", "{", '{"uid": 3}', "[]", "\x00"])
def test_a_damaged_cache_is_passed_over(tmp_path, content):
    (tmp_path / "speaker-config.json").write_text(content)
    (tmp_path / "pod-health.json").write_text(content)
    assert Cache(tmp_path).load_configuration() is None
    assert Cache(tmp_path).load_health() == {}


def test_what_cannot_be_kept_is_said_once_and_is_a_warning_until_it_can(tmp_path, caplog):
    cache = Cache(tmp_path / "later")
    with caplog.at_level(logging.WARNING):
        cache.save_configuration(KEPT)
        cache.save_configuration(KEPT)
    assert len(caplog.records) == 1
    assert cache.warnings == [f"speaker-config.json cannot be kept in {tmp_path / 'later'}: No such file or directory"]
    (tmp_path / "later").mkdir()
    cache.save_configuration(KEPT)
    assert cache.warnings == []


# ----- alive -----


def check(folder, *flags):
    command = [sys.executable, "-P", "-m", "holdfast_speaker.agent.alive", f"--cache-dir={folder}", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stderr.strip()


def test_an_agent_that_has_not_begun_is_not_alive(tmp_path):
    assert check(tmp_path) == (1, "the agent has not begun: No such file or directory")


def test_an_agent_whose_loop_turns_is_alive_and_ready_when_nothing_hinders_it(tmp_path):
    Cache(tmp_path).save_alive(alive.words(""))
    assert check(tmp_path) == check(tmp_path, "--ready") == (0, "")


def test_an_agent_without_an_engine_is_alive_and_not_ready(tmp_path):
    Cache(tmp_path).save_alive(alive.words("no engine listens"))
    assert check(tmp_path) == (0, "")
    assert check(tmp_path, "--ready") == (1, "no engine listens")


def test_an_agent_whose_loop_stands_still_is_not_alive():
    at = float(alive.words("").split()[0]) - alive.FRESH_SECONDS - 1
    assert "loop turned 1" in alive.obstacle(f"{at} ", ready=False)
    assert alive.obstacle("nonsense", ready=False) == "the agent wrote no time"
    assert alive.obstacle(f"{at + 1000} ", ready=False)  # of another boot
