"""What a service proxy's answers mean, one by one and one after another."""

from __future__ import annotations

import pytest

from holdfast_api.reasons import Health
from holdfast_speaker.health.service_proxy import (
    SILENCE_SECONDS,
    Answer,
    PortJudgement,
    Said,
    overall,
    read_reply,
)

HEALTHY = PortJudgement(Health.HEALTHY)
FAILING = PortJudgement(Health.FAILING, "no endpoint")
READY = Answer(Said.READY)
NOT_READY = Answer(Said.NOT_READY, "no endpoint")
FIRST_NOT_READY = Answer(Said.NOT_READY, "no endpoint", is_first=True)
NOTHING = Answer(Said.NOTHING, "refused")

KUBE_PROXY = b"""HTTP/1.1 %s\r
Content-Type: application/json\r
X-Content-Type-Options: nosniff\r
X-Load-Balancing-Endpoint-Weight: %d\r
Date: Fri, 27 Nov 2026 07:00:00 GMT\r
Content-Length: %d\r
\r
%s"""


def kube_proxy(status, endpoints, healthy=True):
    body = (
        b'{\n\t"service": {\n\t\t"namespace": "shop",\n\t\t"name": "web"\n\t},\n\t"localEndpoints": %d,\n'
        b'\t"serviceProxyHealthy": %s\n}' % (endpoints, b"true" if healthy else b"false")
    )
    return KUBE_PROXY % (status, endpoints, len(body), body)


def said(received):
    reply = read_reply(received, is_first=False)
    assert reply is not None
    return reply.answer.said, reply.answer.words, reply.is_kept


def after(judgement, *answers):
    for seconds, answer in enumerate(answers):
        judgement = judgement.after(answer, float(seconds))
    return judgement


# ----- one answer -----


def test_a_node_with_ready_endpoints_answers_200():
    assert said(kube_proxy(b"200 OK", 2)) == (Said.READY, "", True)


def test_a_node_without_one_answers_503_and_names_the_service():
    assert said(kube_proxy(b"503 Service Unavailable", 0)) == (
        Said.NOT_READY,
        "answered 503: no ready endpoint of shop/web on this node",
        True,
    )


def test_a_service_proxy_that_does_not_trust_its_own_rules_is_no_good_for_the_vip():
    assert said(kube_proxy(b"503 Service Unavailable", 2, healthy=False)) == (
        Said.NOT_READY,
        "answered 503: 2 ready endpoints of shop/web, but the service proxy is not healthy",
        True,
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no",
        b"[]",
        b'{"localEndpoints": null}',
        b'{"localEndpoints": "two"}',
        b'{"localEndpoints":0,"service":{"name":"\x1b[2J"}}',
    ],
)
def test_the_body_of_a_503_may_say_anything(body):
    received = b"HTTP/1.1 503 x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    assert said(received) == (Said.NOT_READY, "answered 503", True)


def test_an_answer_counts_once_it_is_whole():
    whole = kube_proxy(b"200 OK", 1)
    assert all(read_reply(whole[:length], is_first=False) is None for length in range(len(whole)))


@pytest.mark.parametrize(
    "received",
    [
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
    ],
)
def test_a_connection_whose_answer_has_no_certain_end_is_not_asked_again(received):
    assert said(received) == (Said.READY, "", False)


@pytest.mark.parametrize(
    ("received", "words"),
    [
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "answered 404, which is not a service proxy's 200 or 503",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "answered 100, which is not a service proxy's 200 or 503"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "what it sent is no HTTP"),
        (b"x" * 20000, "what it sent is no HTTP"),
    ],
)
def test_what_no_service_proxy_sends_is_no_answer(received, words):
    assert said(received) == (Said.NOTHING, words, False)


# ----- one after another -----


def test_the_first_answer_counts_unless_it_is_a_503():
    assert after(PortJudgement(), READY).health is Health.HEALTHY
    assert after(PortJudgement(), FIRST_NOT_READY).health is Health.UNKNOWN
    assert after(PortJudgement(), FIRST_NOT_READY, NOT_READY) == FAILING


def test_a_503_counts_at_once():
    assert after(HEALTHY, NOT_READY) == FAILING


def test_a_503_of_a_service_proxy_that_may_have_just_started_counts_when_it_comes_twice():
    assert after(HEALTHY, FIRST_NOT_READY).health is Health.HEALTHY
    assert after(HEALTHY, FIRST_NOT_READY, READY) == HEALTHY
    assert after(HEALTHY, FIRST_NOT_READY, NOT_READY) == FAILING
    assert after(HEALTHY, FIRST_NOT_READY, FIRST_NOT_READY) == FAILING, "one that keeps no connection"


def test_a_node_that_was_failing_is_healthy_again_after_two_200():
    assert after(FAILING, READY).health is Health.FAILING
    assert after(FAILING, READY, NOT_READY, READY).health is Health.FAILING
    assert after(FAILING, READY, READY) == HEALTHY


@pytest.mark.parametrize("before", [HEALTHY, FAILING])
def test_a_service_proxy_that_is_started_anew_changes_nothing(before):
    silent = after(before, NOTHING, NOTHING, NOTHING)
    assert (silent.health, silent.message) == (before.health, before.message)
    if before is HEALTHY:
        assert after(before, NOTHING, NOTHING, FIRST_NOT_READY, READY) == HEALTHY


def test_one_that_stays_away_is_a_failure():
    long_silent = after(HEALTHY, *[NOTHING] * (int(SILENCE_SECONDS) + 1))
    assert (long_silent.health, long_silent.message) == (Health.FAILING, "refused, for 10 s and more")
    assert after(long_silent, Answer(Said.NOTHING, "another reason")) == long_silent, "told once"
    assert after(long_silent, READY).health is Health.FAILING
    assert after(long_silent, READY, READY) == HEALTHY


def test_silence_is_counted_from_the_last_answer():
    times = [(NOTHING, 0.0), (NOTHING, 9.0), (READY, 9.5), (NOTHING, 10.0), (NOTHING, 19.0)]
    judgement = HEALTHY
    for answer, now in times:
        judgement = judgement.after(answer, now)
        assert judgement.health is Health.HEALTHY


def test_what_cannot_be_asked_says_nothing():
    not_asked = Answer(Said.NOT_ASKED, "Too many open files")
    assert after(HEALTHY, *[not_asked] * 30) == HEALTHY
    assert after(PortJudgement(), not_asked) == PortJudgement(message="Too many open files")


# ----- several ports -----


def test_all_ports_of_a_vip_must_be_well():
    assert overall([(30001, HEALTHY), (30002, HEALTHY)]) == (Health.HEALTHY, "")
    assert overall([(30001, HEALTHY), (30002, PortJudgement())]) == (
        Health.UNKNOWN,
        "healthCheckNodePort 30002: no answer yet",
    )
    assert overall([(30001, FAILING), (30002, PortJudgement()), (30003, FAILING)]) == (
        Health.FAILING,
        "healthCheckNodePort 30001: no endpoint; healthCheckNodePort 30003: no endpoint",
    )
