"""The laws of virtual router ids that are not pinned."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from holdfast_operator.planner.host.vrid import VRIDS, Claim, allocate, first_choice

FOUR, SIX, BOTH = frozenset({4}), frozenset({6}), frozenset({4, 6})

NAMES = st.integers(0, 500).map("default/vip{}".format)  # more names than ids: collisions are certain
CLAIMS = st.lists(
    st.builds(Claim, NAMES, st.sampled_from([FOUR, SIX, BOTH]), st.none() | st.integers(1, VRIDS)),
    unique_by=lambda claim: claim.name,
    max_size=60,
)


def pins(claims):
    return {claim.name: claim.pinned for claim in claims if claim.pinned is not None}


@given(CLAIMS, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_the_claims_does_not_matter(claims, random):
    shuffled = claims[:]
    random.shuffle(shuffled)
    assert allocate(shuffled) == allocate(claims)


@given(CLAIMS)
@settings(deadline=None)
def test_pinned_ids_stay_and_allocated_ones_are_in_nobodys_way(claims):
    ids = allocate(claims)
    assert {name: ids[name] for name in pins(claims)} == pins(claims)
    allocated = [claim for claim in claims if claim.pinned is None]
    assert all(1 <= ids[claim.name] <= VRIDS for claim in allocated)
    for claim in allocated:
        for other in claims:
            if other is not claim and other.families & claim.families:
                assert ids[other.name] != ids[claim.name]


@given(CLAIMS, st.builds(Claim, NAMES, st.sampled_from([FOUR, SIX, BOTH])))
@settings(deadline=None)
def test_a_new_claim_never_changes_one_whose_name_sorts_before_it(claims, new):
    assume(new.name not in {claim.name for claim in claims})
    before, after = allocate(claims), allocate([*claims, new])
    earlier = [claim.name for claim in claims if claim.name < new.name]
    assert {name: after[name] for name in earlier} == {name: before[name] for name in earlier}


@given(
    CLAIMS,
    st.builds(Claim, NAMES, st.sampled_from([FOUR, SIX, BOTH]), st.none() | st.integers(1, VRIDS)),
)
@settings(deadline=None)
def test_a_claim_changes_no_other_if_nobody_has_its_id_without_it(claims, new):
    assume(new.name not in {claim.name for claim in claims})
    before, after = allocate(claims), allocate([*claims, new])
    meets = [claim.name for claim in claims if claim.families & new.families]
    assume(after[new.name] not in {before[name] for name in meets})
    assert {claim.name: after[claim.name] for claim in claims} == before


def test_a_claim_alone_gets_its_first_choice():
    assert allocate([Claim("default/web", FOUR)]) == {"default/web": first_choice("default/web")}


def test_a_claim_whose_first_choice_is_taken_steps_on_and_around():
    first = first_choice("default/web")
    taken = [Claim(f"other/{vrid}", FOUR, vrid) for vrid in range(first, VRIDS + 1)]
    assert allocate([Claim("default/web", FOUR), *taken])["default/web"] == 1


def test_the_families_do_not_stand_in_each_others_way():
    pinned = Claim("other/six", SIX, first_choice("default/web"))
    assert allocate([Claim("default/web", FOUR), pinned])["default/web"] == first_choice("default/web")
    assert allocate([Claim("default/web", BOTH), pinned])["default/web"] != first_choice("default/web")


def test_all_ids_of_a_link_can_be_used_and_the_claim_after_that_gets_none():
    claims = [Claim(f"default/vip{number:03}", FOUR) for number in range(VRIDS + 1)]
    ids = allocate(claims)
    assert sorted(ids.values()) == list(range(1, VRIDS + 1))
    assert [claim.name for claim in claims if claim.name not in ids] == ["default/vip255"]
