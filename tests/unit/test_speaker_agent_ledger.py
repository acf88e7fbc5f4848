from __future__ import annotations

import pytest

from holdfast_speaker.agent.ledger import REPAIR_SECONDS, WORDS_SECONDS, Ledger

A = {"state": "Backup", "message": "x"}
B = {"state": "Master", "message": "y"}


class Case:
    def __init__(self):
        self.now = 1000.0
        self.ledger = Ledger(("message",), lambda: self.now)

    def write(self, name, version):
        wanted = self.ledger.wanted(name)
        self.ledger.wrote(name, wanted, version, wanted)


@pytest.fixture
def case():
    return Case()


def test_only_objects_that_are_there_are_written(case):
    case.ledger.want("web", A)
    assert case.ledger.due() == []
    case.ledger.see("web", "1", None)
    assert case.ledger.due() == ["web"]


def test_what_stands_there_already_is_not_written(case):
    case.ledger.want("web", A)
    case.ledger.see("web", "1", dict(A))
    assert case.ledger.due() == []


def test_what_was_written_is_written_again_only_when_it_changes(case):
    case.ledger.see("web", "1", None)
    case.ledger.want("web", A)
    case.write("web", "2")
    assert case.ledger.due() == []
    case.ledger.want("web", B)
    assert case.ledger.due() == ["web"]


def test_the_echo_of_an_older_write_is_no_contradiction(case):
    case.ledger.see("web", "1", None)
    case.ledger.want("web", A)
    case.write("web", "2")
    case.ledger.want("web", B)
    case.write("web", "3")
    case.ledger.see("web", "2", A)
    case.now += REPAIR_SECONDS
    assert case.ledger.due() == []


def test_what_the_api_server_makes_of_it_is_not_taken_for_a_contradiction(case):
    case.ledger.see("web", "1", None)
    case.ledger.want("web", A)
    case.ledger.wrote("web", A, "2", {"state": "Backup"})
    case.ledger.see("web", "3", {"state": "Backup"})
    case.now += REPAIR_SECONDS
    assert case.ledger.due() == []


def test_what_others_did_to_an_entry_is_put_right_after_a_while(case):
    case.ledger.see("web", "1", None)
    case.ledger.want("web", A)
    case.write("web", "2")
    case.ledger.see("web", "3", None)
    assert case.ledger.due() == []
    assert case.ledger.next_due() == case.now + REPAIR_SECONDS
    case.now += REPAIR_SECONDS
    assert case.ledger.due() == ["web"]


def test_a_change_of_words_alone_waits(case):
    case.ledger.see("web", "1", None)
    case.ledger.want("web", A)
    case.write("web", "2")
    case.ledger.want("web", {**A, "message": "other words"})
    assert case.ledger.due() == []
    case.now += WORDS_SECONDS
    assert case.ledger.due() == ["web"]


def test_an_entry_that_shall_not_be_there_is_removed(case):
    case.ledger.see("web", "1", A)
    assert case.ledger.with_entry() == ["web"]
    case.ledger.want("web", None)
    assert case.ledger.due() == ["web"]
    case.ledger.wrote("web", None, "2", None)
    assert case.ledger.due() == []
    assert case.ledger.with_entry() == []


def test_an_object_that_is_gone_is_not_written_and_one_that_comes_is_another_one(case):
    case.ledger.see("web", "1", None)
    case.ledger.want("web", A)
    case.write("web", "2")
    case.ledger.see_only([])
    assert case.ledger.due() == []
    case.ledger.see("web", "9", None)
    assert case.ledger.due() == ["web"]


def test_what_is_refused_for_good_is_not_tried_again_until_the_truth_is_another(case):
    case.ledger.see("web", "1", None)
    case.ledger.want("web", A)
    case.ledger.refused("web", A)
    assert case.ledger.due() == []
    case.ledger.want("web", B)
    assert case.ledger.due() == ["web"]


def test_a_refused_removal_is_tried_again_when_the_object_has_changed(case):
    case.ledger.see("web", "1", A)
    case.ledger.want("web", None)
    case.ledger.refused("web", None)
    assert case.ledger.due() == []
    case.ledger.see("web", "2", A)
    assert case.ledger.due() == ["web"]


def test_what_nobody_wants_stays_as_it_is(case):
    case.ledger.see("web", "1", A)
    assert case.ledger.due() == []
    assert case.ledger.there("web") == A


def test_what_is_postponed_is_not_due_until_then_whatever_is_wanted_meanwhile(case):
    for name in ("web", "db"):
        case.ledger.see(name, "1", None)
        case.ledger.want(name, A)
    case.ledger.postpone("web", 15.0)
    case.ledger.want("web", B)
    assert case.ledger.due() == ["db"]
    case.now += 15.0
    assert case.ledger.due() == ["web", "db"]
    case.write("web", "2")
    assert case.ledger.due() == ["db"]


def test_an_object_that_is_made_anew_is_not_postponed(case):
    case.ledger.see("web", "1", None)
    case.ledger.want("web", A)
    case.ledger.postpone("web", 15.0)
    case.ledger.see_gone("web")
    case.ledger.see("web", "3", None)
    assert case.ledger.due() == ["web"]


# ----- lists, which are believed -----


def test_after_a_restore_of_etcd_the_list_is_believed_though_its_versions_have_gone_back(case):
    case.ledger.see_listed("web", "5000000", A, "u1")
    case.ledger.want("web", B)
    case.write("web", "5000001")
    case.ledger.see_listed("web", "3000000", A, "u1")
    case.now += REPAIR_SECONDS
    assert case.ledger.there("web") == A
    assert case.ledger.due() == ["web"]
    case.write("web", "3000001")
    assert case.ledger.due() == []


def test_one_that_was_made_anew_between_two_lists_is_another_one(case):
    case.ledger.see_listed("web", "1", None, "u1")
    case.ledger.want("web", A)
    case.write("web", "2")
    case.ledger.see_listed("web", "9", None, "u2")
    assert case.ledger.due() == ["web"], "at once: nobody has taken anything away from us"


def test_what_the_former_one_did_not_take_the_new_one_is_asked(case):
    case.ledger.see_listed("web", "1", None, "u1")
    case.ledger.want("web", A)
    case.ledger.refused("web", A)
    assert case.ledger.due() == []
    case.ledger.see("web", "9", None, "u2")
    assert case.ledger.due() == ["web"]
