"""The heap of deadlines gives what asking every router would give, only sometimes too early."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast_speaker.engine.deadlines import Deadlines
from holdfast_speaker.vrrp.instants import Instant

STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 50)), max_size=40)


@given(STEPS)
def test_nothing_is_ever_due_later_than_it_was_set(steps: list[tuple[str, int | None]]) -> None:
    deadlines, wanted = Deadlines(), dict[str, int]()
    for key, at in steps:
        deadlines.set(key, None if at is None else Instant(at))
        wanted.pop(key, None)
        if at is not None:
            wanted[key] = at
        earliest = deadlines.earliest()
        if wanted:
            assert earliest is not None
            assert earliest <= min(wanted.values())
        else:
            assert earliest is None
    for now in range(51):
        due = deadlines.pop_due(Instant(now))
        assert len(due) == len(set(due))
        for key in due:
            if wanted[key] > now:
                deadlines.set(key, Instant(wanted[key]))
            else:
                del wanted[key]
        assert not any(at <= now for at in wanted.values())
