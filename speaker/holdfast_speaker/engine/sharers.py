"""What becomes of the VirtualIPs that share a virtual router, each by itself: withheld, tried again, told to people.

The engine asks, the kernel is told and the neighbours hear by virtual router; here it is decided whose addresses are
among those that are held. ADR 36.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from holdfast_api.messages import Transition
from holdfast_api.reasons import Obstacle, Reason, State
from holdfast_speaker.engine import conflicts
from holdfast_speaker.engine.addresses import HeldAddresses, text
from holdfast_speaker.engine.conflicts import ASK_AGAIN_AFTER, ASK_AGAIN_FIRST_AFTER
from holdfast_speaker.engine.errnos import told
from holdfast_speaker.engine.instance import RETRY_AFTER, Instance
from holdfast_speaker.engine.ports import Clock, KernelAddress, Log
from holdfast_speaker.engine.reports import transition_message
from holdfast_speaker.engine.sharing import Sharer
from holdfast_speaker.vrrp.actions import Transitioned
from holdfast_speaker.vrrp.instants import Instant


class Sharers:
    """Those of all shared virtual routers. What it knows of each stands in the Instance's `sharers`.

    `tell` takes each transition of a VirtualIP.
    """

    def __init__(self, addresses: HeldAddresses, clock: Clock, log: Log, tell: Callable[[Transition], None]) -> None:
        self._addresses = addresses
        self._clock = clock
        self._log = log
        self._tell = tell

    # ----- who shares -----

    def change(self, instance: Instance, before: Mapping[str, Sharer], now: Instant) -> None:
        """The virtual router has another configuration: who shares it no longer is told to be removed."""
        for name, sharer in before.items():
            if name not in instance.sharers and name != instance.name:
                self._tell_one(instance, sharer, State.INITIALIZE, Reason.REMOVED, "", now)
        for sharer in instance.sharers.values():
            if sharer.unasked and self._addresses.holds(address for address, _ in sharer.addresses):
                sharer.unasked = False  # it moves here from another virtual router of this node

    # ----- which of them are withheld -----

    def judge(self, instance: Instance, why_not: Callable[[Sequence[tuple[bytes, int]]], str]) -> bool:
        """Find out which of them may be held here, by `why_not` of their addresses; whether that is new of any."""
        is_new = False
        for sharer in instance.sharers.values():
            why = why_not(sharer.addresses)
            if sharer.withheld.get(Obstacle.ADDRESS_NOT_PERMITTED, "") == why:
                continue
            is_new = True
            sharer.withhold(Obstacle.ADDRESS_NOT_PERMITTED, why)
            if why:
                self._log.error(f"cannot be held: {why}", virtualIP=sharer.name)
        refused = [sharer.withheld.get(Obstacle.ADDRESS_NOT_PERMITTED, "") for sharer in instance.sharers.values()]
        instance.refusal = refused[0] if all(refused) else ""
        return is_new

    def find_in_use(self, instance: Instance) -> bool:
        """Which of them have an address that is on this host already; whether that is new of any."""
        link = instance.link
        if not instance.sharers or link is None or instance.owner:
            return False
        is_new = False
        for sharer in instance.sharers.values():
            own = (KernelAddress(link.index, address, 8 * len(address)) for address, _ in sharer.addresses)
            elsewhere = self._addresses.elsewhere(own)
            why = self._addresses.sentence_elsewhere(elsewhere[0]) if elsewhere else ""
            is_new |= sharer.withheld.get(Obstacle.ADDRESS_IN_USE, "") != why
            sharer.withhold(Obstacle.ADDRESS_IN_USE, why)
        return is_new

    def decide(self, instance: Instance, conflict: Mapping[bytes, bytes], now: Instant) -> None:
        """What a check for conflicts says of each: `conflict` has the MAC of whoever answered, by address."""
        holds = instance.router.holds_addresses
        asked = list(instance.sharers.values())
        if holds:  # new ones alone, where there are any; of what is withheld nothing was asked
            unasked = [sharer for sharer in asked if sharer.unasked]
            asked = unasked or [sharer for sharer in asked if not sharer.is_out]
        for sharer in asked:
            own = {address: conflict[address] for address, _ in sharer.addresses if address in conflict}
            sentence = conflicts.sentence(own) if own else ""
            is_held = holds and not sharer.is_out
            if sentence and sentence not in (sharer.warning, sharer.withheld.get(Obstacle.ADDRESS_CONFLICT)):
                self._log.error(f"somebody else answers for it: {sentence}", virtualIP=sharer.name)
            sharer.unasked = False
            sharer.warning = sentence if is_held or not instance.refuses_conflicts else ""
            if is_held:
                continue
            before = Obstacle.ADDRESS_CONFLICT in sharer.withheld
            sharer.withhold(Obstacle.ADDRESS_CONFLICT, sentence if instance.refuses_conflicts else "")
            sharer.retry_at = None
            if Obstacle.ADDRESS_CONFLICT in sharer.withheld:
                sharer.retry_at = Instant(now + (ASK_AGAIN_AFTER if before else ASK_AGAIN_FIRST_AFTER))
        instance.plan_retry()

    def try_again(self, instance: Instance, now: Instant) -> None:
        """What is due of what the kernel refused is tried, of what somebody else had it is to be asked for."""
        due = [one for one in instance.sharers.values() if one.retry_at is not None and one.retry_at <= now]
        for sharer in due:
            sharer.retry_at = None
            sharer.withheld.pop(Obstacle.KERNEL_REFUSED, None)
            if Obstacle.ADDRESS_CONFLICT in sharer.withheld and instance.router.holds_addresses:
                sharer.unasked = True
        instance.plan_retry()

    def withhold_refused(self, instance: Instance, refused: Mapping[KernelAddress, int], now: Instant) -> None:
        """Those whose addresses the kernel does not take are withheld for a while; `refused` has its error numbers."""
        codes = {address.address: (address, code) for address, code in refused.items()}
        for sharer in instance.sharers.values():
            for own, _ in sharer.addresses:
                if own in codes:
                    address, code = codes[own]
                    sharer.withheld[Obstacle.KERNEL_REFUSED] = f"the kernel refused {text(address)}: {told(code)}"
                    sharer.retry_at = Instant(now + RETRY_AFTER)
        instance.plan_retry()

    def leave_to_master(self, instance: Instance) -> None:
        """Another node is Master."""
        for sharer in instance.sharers.values():
            sharer.leave_to_master()

    # ----- what people are told -----

    def tell_with_router(self, instance: Instance, message: Transition, now: Instant) -> None:
        """What they do with their virtual router, of which `message` is; the log has one line for all of them."""
        for sharer in instance.sharers.values():
            state = sharer.shown_state(instance.router.state_name)
            if state is message.to_state and state is not sharer.state:
                moved = msgspec.structs.replace(message, virtual_ip=sharer.name, from_state=sharer.state)
                sharer.remember(moved)
                self._tell(moved)
        self.tell(instance, now)

    def tell(self, instance: Instance, now: Instant) -> None:
        """Which of them are held or withheld from now on, though their virtual router stays what it is."""
        state = instance.router.state_name
        for sharer in instance.sharers.values():
            shown = sharer.shown_state(state)
            if shown is sharer.state or not instance.started:
                continue
            if shown is State.INITIALIZE:
                obstacle = min(sharer.withheld, default=None)
                reason = Reason(obstacle.value) if obstacle is not None else Reason.STOPPED
                detail = sharer.withheld[obstacle] if obstacle is not None else "its addresses are to be asked for"
                self._tell_one(instance, sharer, shown, reason, detail, now)
            elif sharer.last_move.reason in (None, Reason.REMOVED):
                self._tell_one(instance, sharer, shown, Reason.STARTED, "it shares a virtual router", now)
            else:
                self._tell_one(instance, sharer, shown, Reason.OBSTACLE_GONE, "", now)

    def _tell_one(
        self, instance: Instance, sharer: Sharer, state: State, reason: Reason, detail: str, now: Instant
    ) -> None:
        priority = instance.router.effective_priority
        action = Transitioned(now, sharer.state, state, reason, priority, detail=detail)
        message = transition_message(sharer.name, action, self._clock.timestamp())
        sharer.remember(message)
        self._tell(message)
        self._log.info(
            f"{message.from_state} -> {message.to_state}: {message.message}",
            virtualIP=sharer.name,
            virtualRouter=instance.name,
            reason=message.reason,
        )
