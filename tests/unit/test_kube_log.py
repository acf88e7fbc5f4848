"""One line for each record."""

from __future__ import annotations

import json
import logging
import re
import sys

from holdfast_kube.log import JSONLines, TextLines


def record(message, *arguments, exc_info=None):
    return logging.LogRecord("holdfast_operator.x", logging.WARNING, "x.py", 1, message, arguments, exc_info)


def failed():
    try:
        raise ZeroDivisionError("twice")
    except ZeroDivisionError:
        return record("it broke", exc_info=sys.exc_info())


def test_text_has_time_level_and_message():
    line = TextLines().format(record("%s is gone", "n1"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning n1 is gone", line)


def test_json_has_its_fields():
    entry = json.loads(JSONLines().format(record("%s is gone", "n1")))
    assert entry.pop("time").endswith("Z")
    assert entry == {"level": "warning", "logger": "holdfast_operator.x", "message": "n1 is gone"}


def test_json_has_what_every_line_of_the_process_has():
    entry = json.loads(JSONLines({"node": "n1"}).format(record("it is away")))
    assert (entry["node"], entry["message"]) == ("n1", "it is away")


def test_a_traceback_stays_on_the_line():
    text, as_json = TextLines().format(failed()), JSONLines().format(failed())
    assert "\n" not in text
    assert "\n" not in as_json
    assert text.endswith(r"\nZeroDivisionError: twice")
    assert json.loads(as_json)["traceback"].endswith("\nZeroDivisionError: twice")


def test_a_message_of_several_lines_stays_on_one():
    assert TextLines().format(record("a\nb")).endswith(r" warning a\nb")
