"""Commands are told of each change, in order, and of the last state in the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from holdfast_api.messages import Status, Transition
from holdfast_api.reasons import Obstacle, Reason, State
from holdfast_api.resources import Notification, NotifyState
from holdfast_api.speaker import SpeakerConfiguration, VirtualRouterConfiguration
from holdfast_cli.standalone.changes import with_references
from holdfast_cli.standalone.executables import Unusable, executables_of, identity_of, require_usable
from holdfast_cli.standalone.notifier import WAITING_MAX, Notifier
from holdfast_cli.standalone.notify_record import NotifyRecord, read_record, this_boot, write_record
from holdfast_operator.planner.host.standalone import HostPlan
from holdfast_testing.agent_fixtures import FakeEngine, router_status

WEB = VirtualRouterConfiguration(name="shop/web", addresses=["10.0.0.9/24"], virtual_router_id=51, priority=150)
LONG_AGO, THEN, LATER = "2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z", "2026-01-03T00:00:00.000Z"


class Silent:
    """A log whose lines are kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, _level: str, message: str, **_facts: Any) -> None:
        self.lines.append(message)


class Teller:
    """A notifier in a folder, with a command that writes down which state it was told of."""

    def __init__(self, folder: Path, *more: Notification, text: str = "") -> None:
        self.folder = folder
        self.file = folder / "told"
        self.script = folder / "script"
        self.script.write_text(f'#!/bin/sh\n{text}\necho "$1 $(cat)" >> {self.file}\n')
        self.script.chmod(0o700)
        self.log = Silent()
        self.state = folder / "state"
        self.state.mkdir(exist_ok=True)
        self.notifications = [*more, Notification(command=[str(self.script), "$(HOLDFAST_STATE)"])]

    def begun(self) -> Notifier:
        notifier = Notifier(None, self.state, "n1", self.log)  # type: ignore[arg-type]  # a log is what it writes to
        notifier.replace(self.plan(WEB))
        notifier.begin()
        return notifier

    def plan(self, *routers: VirtualRouterConfiguration) -> HostPlan:
        return HostPlan(
            configuration=SpeakerConfiguration(node_name="n1", generation=1, virtual_routers=list(routers)),
            probes={},
            notifications={router.name: self.notifications for router in routers},
            warnings=(),
        )

    @property
    def told(self) -> list[str]:
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [line.partition(" ")[0] for line in lines]


def change(before: State, after: State, reason: Reason = Reason.MASTER_SILENT) -> Transition:
    return Transition(
        virtual_ip="shop/web",
        from_state=before,
        to_state=after,
        reason=reason,
        message="a sentence",
        time=THEN,
        peer="10.0.0.2",
        peer_priority=90,
    )


def status(**fields: Any) -> Status:
    return structs.replace(FakeEngine(Path("unused")).status(), routers=[router_status(WEB, **fields)])


UP = change(State.BACKUP, State.MASTER)
DOWN = change(State.MASTER, State.BACKUP, Reason.HEALTHIER_MASTER)


def run(teller: Teller, act: Callable[[Notifier], None]) -> list[str]:
    """What is told when that happens, and then the end."""

    async def live() -> None:
        notifier = teller.begun()
        act(notifier)
        while any(told.begun is not None and not told.begun.done() for told in notifier._all.values()):
            await asyncio.sleep(0.01)
        await notifier.close(1)

    asyncio.run(live())
    return teller.told


def test_a_change_is_told_with_its_facts(tmp_path: Path) -> None:
    teller = Teller(tmp_path)
    assert run(teller, lambda notifier: notifier.tell(UP)) == ["MASTER"]
    assert json.loads(teller.file.read_text().partition(" ")[2]) == {
        "virtualIP": "shop/web",
        "nodeName": "n1",
        "addresses": ["10.0.0.9"],
        "from": "Backup",
        "to": "Master",
        "state": "MASTER",
        "reason": "MasterSilent",
        "message": "a sentence",
        "peer": "10.0.0.2",
        "peerPriority": 90,
        "priority": 150,
        "time": THEN,
    }


def test_of_too_many_changes_the_oldest_are_dropped_and_the_last_is_told(tmp_path: Path) -> None:
    teller = Teller(tmp_path)

    def act(notifier: Notifier) -> None:
        for _ in range(WAITING_MAX):
            notifier.tell(UP)
            notifier.tell(DOWN)
        notifier.tell(UP)

    assert run(teller, act) == ["BACKUP", "MASTER"] * (WAITING_MAX // 2)
    (warning,) = read_record(teller.state).warnings["shop/web"]
    assert warning == f"notify: {WAITING_MAX + 1} changes were not told, as its commands took too long"


def test_one_that_fails_is_a_warning_and_the_next_is_told(tmp_path: Path) -> None:
    teller = Teller(tmp_path, Notification(command=["/nowhere/x"]), Notification(command=["false"]))
    assert run(teller, lambda notifier: notifier.tell(UP)) == ["MASTER"]
    assert read_record(teller.state).warnings == {
        "shop/web": ["notify: /nowhere/x: is missing", "notify: false: exit status 1"]
    }


def test_a_command_is_told_of_its_states_alone(tmp_path: Path) -> None:
    teller = Teller(tmp_path)
    teller.notifications = [structs.replace(teller.notifications[0], states=[NotifyState.BACKUP])]

    def act(notifier: Notifier) -> None:
        notifier.tell(UP)
        notifier.tell(DOWN)

    assert run(teller, act) == ["BACKUP"]


def test_what_was_held_before_and_was_told_already_is_no_change(tmp_path: Path) -> None:
    held = status(state=State.MASTER, since=LONG_AGO)
    assert run(Teller(tmp_path), lambda notifier: notifier.catch_up(held, THEN)) == []
    teller = Teller(tmp_path)
    write_record(teller.state, NotifyRecord(boot=this_boot(), told={"shop/web": NotifyState.MASTER}))
    held = status(state=State.MASTER, since=LATER)
    assert run(teller, lambda notifier: notifier.catch_up(held, THEN)) == []


@pytest.mark.parametrize("boot", ["another", ""])
def test_after_a_boot_of_the_machine_all_is_told(tmp_path: Path, boot: str) -> None:
    teller = Teller(tmp_path)
    write_record(teller.state, NotifyRecord(boot=boot, told={"shop/web": NotifyState.BACKUP}))
    begun = status(state=State.BACKUP, since=LATER)
    assert run(teller, lambda notifier: notifier.catch_up(begun, THEN)) == ["BACKUP"]


def test_a_change_that_happened_while_nobody_listened_is_told_afterwards(tmp_path: Path) -> None:
    teller = Teller(tmp_path)

    def act(notifier: Notifier) -> None:
        notifier.tell(UP)
        notifier.catch_up(status(state=State.BACKUP, since=LATER, reason=Reason.HIGHER_PRIORITY), THEN)

    assert run(teller, act) == ["MASTER", "BACKUP"]


def test_an_obstacle_is_a_fault_and_a_beginning_is_none(tmp_path: Path) -> None:
    def act(notifier: Notifier) -> None:
        notifier.catch_up(status(state=State.INITIALIZE, since=LATER), THEN)
        notifier.catch_up(status(state=State.INITIALIZE, since=LATER, obstacles=[Obstacle.LINK_DOWN]), THEN)

    assert run(Teller(tmp_path), act) == ["FAULT"]


def test_an_engine_that_stops_is_told_and_one_that_hands_over_is_not(tmp_path: Path) -> None:
    def stop(notifier: Notifier) -> None:
        notifier.tell(UP)
        notifier.tell(change(State.MASTER, State.INITIALIZE, Reason.STOPPED))
        notifier.stopped(cleanly=True)

    def hand_over(notifier: Notifier) -> None:
        notifier.tell(UP)
        notifier.stopped(cleanly=True)

    def die(notifier: Notifier) -> None:
        notifier.tell(UP)
        notifier.stopped(cleanly=False)

    for name, act, expected in (
        ("stop", stop, ["MASTER", "STOP"]),
        ("hand-over", hand_over, ["MASTER"]),
        ("die", die, ["MASTER", "STOP"]),
    ):
        (tmp_path / name).mkdir()
        assert run(Teller(tmp_path / name), act) == expected


def test_a_hand_over_waits_for_no_command_and_its_successor_tells_what_was_not_told(tmp_path: Path) -> None:
    teller = Teller(tmp_path, text="sleep 30")

    async def interrupted() -> None:
        notifier = teller.begun()
        notifier.tell(UP)
        await asyncio.sleep(0.3)
        notifier.stopped(cleanly=True)
        await notifier.close(30)

    asyncio.run(interrupted())
    assert teller.told == []
    held = status(state=State.MASTER, since=THEN)
    assert run(Teller(tmp_path), lambda notifier: notifier.catch_up(held, THEN)) == ["MASTER"]


def test_a_virtual_ip_that_is_removed_in_a_fault_is_told_of_its_end(tmp_path: Path) -> None:
    teller = Teller(tmp_path)

    def act(notifier: Notifier) -> None:
        notifier.tell(change(State.MASTER, State.INITIALIZE, Reason.LINK_DOWN))
        notifier.replace(teller.plan())

    assert run(teller, act) == ["FAULT", "STOP"]


def test_nothing_is_kept_of_a_virtual_ip_that_is_gone(tmp_path: Path) -> None:
    teller = Teller(tmp_path)
    write_record(teller.state, NotifyRecord(boot=this_boot(), told={"shop/web": NotifyState.STOP}))

    def act(notifier: Notifier) -> None:
        notifier.replace(teller.plan(structs.replace(WEB, name="shop/other")))

    assert run(teller, act) == []
    assert read_record(teller.state).told == {}


def test_a_record_of_commands_that_are_gone_is_removed(tmp_path: Path) -> None:
    teller = Teller(tmp_path)
    write_record(teller.state, NotifyRecord(warnings={"": ["of before"]}))
    teller.notifications = []
    run(teller, lambda notifier: notifier.tell(UP))
    assert read_record(teller.state) == NotifyRecord()


def test_known_variables_alone_are_replaced() -> None:
    words = ["$(HOLDFAST_STATE)", "a$(HOLDFAST_STATE)b", "$(date)", "$(HOLDFAST_OTHER)"]
    assert with_references(words, {"HOLDFAST_STATE": "MASTER"}) == [
        "MASTER",
        "aMASTERb",
        "$(date)",
        "$(HOLDFAST_OTHER)",
    ]


@pytest.mark.parametrize(
    ("mode", "folder_mode", "why"),
    [
        (0o755, 0o755, ""),
        (0o757, 0o755, "is not run as root: may be written to by everybody"),
        (0o755, 0o757, "may be written to by everybody"),
        (0o755, 0o1777, ""),
        (0o644, 0o755, "is not executable"),
    ],
)
def test_what_root_runs_is_roots_alone(tmp_path: Path, mode: int, folder_mode: int, why: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    program = folder / "program"
    program.touch()
    program.chmod(mode)
    folder.chmod(folder_mode)
    if program.stat().st_uid != 0:
        pytest.skip("only root can make what is root's")
    if not why:
        require_usable(str(program), None, as_root=True)
        return
    with pytest.raises(Unusable, match=why):
        require_usable(str(program), None, as_root=True)
    if mode & 0o111:
        require_usable(str(program), identity_of("nobody", None))


def test_a_user_and_a_group_must_be_there() -> None:
    with pytest.raises(Unusable, match="there is no user nobody-x"):
        identity_of("nobody-x", None)
    with pytest.raises(Unusable, match="there is no group nobody-x"):
        identity_of("nobody", "nobody-x")
    assert identity_of(None, None) is None


def test_a_folder_is_run_in_the_order_of_its_names_without_leftovers(tmp_path: Path) -> None:
    for name in ("20-b", "10-a", "B", "10-a~", ".hidden", "10-a.dpkg-old", "a.sh"):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(0o755)
    (tmp_path / "data").touch()
    (tmp_path / "folder").mkdir()
    assert [path.name for path in executables_of(tmp_path)] == ["10-a", "20-b", "B", "a.sh"]
    with pytest.raises(Unusable, match="cannot be read"):
        executables_of(tmp_path / "nowhere")
