"""A VIP that moves, and what the nodes' agents write of it: with wrong clocks, away, or dead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from holdfast_operator.planner.cluster.view import ClusterPlan
from holdfast_testing.planner_world import World

WEB = "shop/web"
NODES = ("n1", "n2", "n3")
BEGAN = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Story:
    """A VIP that moves, with what each node says of it. The API server and the operator have the right time."""

    def __init__(
        self, skews: dict[str, int], *, is_written_in_managed_fields: bool = True, world: World | None = None
    ) -> None:
        self.world = world or World(*NODES)
        self.world.apply("web")
        self.world.settle()
        self.world.heard = set(NODES)
        self.skews = skews
        self.stamps = is_written_in_managed_fields
        self.now = BEGAN
        self.holder = ""
        self.holders: list[str] = []
        """All that there were, one after another."""
        self.states = dict.fromkeys(NODES, ("Backup", BEGAN, "Started", ""))
        self.alive = set(NODES)
        for node in NODES:
            self.write(node)
        self.move("n1", "NoMasterHeard")

    def text(self, time: datetime) -> str:
        return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def write(self, node: str) -> None:
        """Its agent writes, if it is there."""
        if self.world.heard is None or node not in self.world.heard or node not in self.alive:
            return
        state, since, reason, peer = self.states[node]
        own = since + timedelta(seconds=self.skews[node])
        at = self.now.strftime("%Y-%m-%dT%H:%M:%SZ") if self.stamps else ""
        self.world.say(WEB, node, state, self.text(own), at=at, reason=reason, peer=peer)

    def move(self, to: str, reason: str = "MasterSilent") -> None:
        """Another node takes over, and the former holder, if it lives, hears it."""
        if to == self.holder or to not in self.alive:
            return
        former, self.holder = self.holder, to
        self.holders.append(to)
        self.states[to] = ("Master", self.now, reason, address(former) if former else "")
        self.write(to)
        if former:
            self.states[former] = ("Backup", self.now, "HigherPriority", address(to))
            self.write(former)

    def agent_goes(self, node: str) -> None:
        assert self.world.heard is not None
        self.world.heard.discard(node)

    def agent_comes(self, node: str) -> None:
        """It is Ready once it has written what is true."""
        assert self.world.heard is not None
        if node in self.alive:
            self.world.heard.add(node)
            self.write(node)

    def dies(self, node: str, *, is_noticed: bool) -> None:
        """The node; while nobody has noticed that its pod is gone, it counts as heard."""
        assert self.world.heard is not None
        survivors = [other for other in NODES if other in self.alive - {node}]
        if not survivors:
            return
        self.alive.discard(node)
        if is_noticed:
            self.world.heard.discard(node)
        if node == self.holder:
            self.move(survivors[0])

    def is_noticed(self) -> None:
        """The control plane has missed the dead by now."""
        assert self.world.heard is not None
        self.world.heard &= self.alive

    def comes_back(self, node: str) -> None:
        if node not in self.alive:
            self.alive.add(node)
            self.states[node] = ("Backup", self.now, "Started", "")
            self.agent_comes(node)

    def passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        if seconds >= 50:
            self.is_noticed()

    def look(self) -> ClusterPlan:
        """The operator's turn. What it writes is all that it remembers."""
        return self.world.reconcile(self.text(self.now))


def address(node: str) -> str:
    return f"10.0.0.{NODES.index(node) + 1}"
