"""The planted bugs: in the protocol, in the engine, and in the order of its turns."""

from __future__ import annotations

from holdfast_testing.mutants.planting import Mutant

ROUTER = "vrrp/router.py"
ENGINE = "engine/engine.py"
ADDRESSES = "engine/addresses.py"
LISTENING = "engine/listening.py"
INSTANCE = "engine/instance.py"
TURN = "engine/turn.py"

MUTANTS: tuple[Mutant, ...] = (
    # ----- the protocol -----
    Mutant(
        "a stray farewell is obeyed",
        ROUTER,
        "            self.counters[Counter.STRAY_FAREWELLS] += 1\n            return True\n",
        "            self.counters[Counter.STRAY_FAREWELLS] += 1\n",
    ),
    Mutant(
        "a replaced Master's last word, overtaken on its way, counts",
        ROUTER,
        "                self.counters[Counter.LOWER_PRIORITY] += 1\n                return True\n        return False\n",
        "                self.counters[Counter.LOWER_PRIORITY] += 1\n        return False\n",
    ),
    Mutant(
        "a hand-over does not ask for patience",
        ROUTER,
        "        longer = max(self.configuration.interval, HAND_OVER_INTERVAL) if self.configuration.version == 3 else None\n",
        "        longer = None\n",
    ),
    Mutant(
        "a resumed Master forgets its recovery",
        ROUTER,
        "        self.recovered_at = recovered_at\n",
        "",
    ),
    Mutant(
        "after a recovered service there is a quiet period",
        ROUTER,
        "return self._begin(now, reason, trusts_silence=True)",
        "return self._begin(now, reason)",
    ),
    Mutant(
        "a Master that did not run does not yield to who took over meanwhile",
        ROUTER,
        "            if self._stalled(state, now):\n",
        "            if False and self._stalled(state, now):\n",
    ),
    Mutant(
        "a Backup that overslept takes over at once",
        ROUTER,
        "if now - state.due > interval and not state.overslept:",
        "if False and now - state.due > interval and not state.overslept:",
    ),
    Mutant(
        "a failing Master is not challenged",
        ROUTER,
        "        if band(advertisement.priority) >= band(self._own_priority):\n            return False\n",
        "        if True or band(advertisement.priority) >= band(self._own_priority):\n            return False\n",
    ),
    Mutant(
        "the recovery hold is not kept",
        ROUTER,
        "        return self.recovered_at is None or now >= self.recovered_at + self.configuration.recovery_hold\n",
        "        return True\n",
    ),
    Mutant(
        "nopreempt is not obeyed",
        ROUTER,
        "            self.configuration.nopreempt\n            or priority >= self._own_priority\n",
        "            priority >= self._own_priority\n",
    ),
    Mutant(
        "the preempt delay does not begin anew after a higher priority",
        ROUTER,
        "            known = self._follow(advertisement, now)\n            preempt_at = None\n",
        "            known = self._follow(advertisement, now)\n",
    ),
    Mutant(
        "the Master's interval is not learned",
        ROUTER,
        "        return Following(self._down_at(now, heard.interval), heard)\n",
        "        return Following(self._down_at(now, self.configuration.interval), heard)\n",
    ),
    Mutant(
        "a learned interval has no limit",
        ROUTER,
        "return Heard(advertisement.source, advertisement.priority, min(advertisement.interval, limit), now)",
        "return Heard(advertisement.source, advertisement.priority, advertisement.interval, now)",
    ),
    Mutant(
        "of two equal Masters the lower address stays",
        ROUTER,
        "        return advertisement.source > family.source\n",
        "        return advertisement.source < family.source\n",
    ),
    Mutant(
        "two families that are ordered the other way round both yield",
        ROUTER,
        "        if decided_at is not None and now - decided_at < 2 * self.configuration.interval:\n            return False\n",
        "",
    ),
    Mutant(
        "two owners both yield",
        ROUTER,
        "        if self.configuration.owner and ours == theirs:\n",
        "        if False and self.configuration.owner and ours == theirs:\n",
    ),
    Mutant(
        "a flood of rivals is answered each time",
        ROUTER,
        "        if state.answered_at is not None and now - state.answered_at < self.configuration.interval // 4:\n            return NOTHING\n",
        "",
    ),
    Mutant(
        "rivals are announced against each time",
        ROUTER,
        "        if state.answer_announced_at is not None and now - state.answer_announced_at < SECOND:\n            return answer\n",
        "",
    ),
    Mutant(
        "a late advertisement is made up for by several",
        ROUTER,
        "            later = step if step > now else Instant(now + self.configuration.interval)\n",
        "            later = step\n",
    ),
    Mutant(
        "a wish never ends",
        ROUTER,
        "        return replace(state, wish=None) if ended else state\n",
        "        return state\n",
    ),
    Mutant(
        "announcements are not repeated",
        ROUTER,
        "        return (step if step > now else Instant(now + every),)\n",
        "        return ()\n",
    ),
    Mutant(
        "who has heard nobody advertises its own priority",
        ROUTER,
        "was_unproved = self.unproved\n        actions = self._meet_rival(state, advertisement, now)",
        "was_unproved = False\n        actions = self._meet_rival(state, advertisement, now)",
    ),
    Mutant(
        "a carrier flap gives the addresses up at once",
        ROUTER,
        "            if self.state.cut_off is None and now < until:\n",
        "            if False and self.state.cut_off is None and now < until:\n",
    ),
    Mutant(
        "a link that stays down keeps its Master",
        ROUTER,
        "            if now < state.cut_off.until:\n                return NOTHING\n",
        "            if now < state.cut_off.until or True:\n                return NOTHING\n",
    ),
    Mutant(
        "a proof of hearing outlives the link",
        ROUTER,
        "            self.proven = frozenset()\n            self.listening_since = now\n",
        "            self.listening_since = now\n",
    ),
    Mutant(
        "after a cut nobody is yielded to",
        ROUTER,
        "            yields_until=Instant(now + YIELDS_AFTER_A_CUT),\n",
        "            yields_until=None,\n",
    ),
    Mutant(
        "half of a VirtualIP counts as well",
        ROUTER,
        "        if self.health is Health.HEALTHY and not self.configuration.partial:\n",
        "        if self.health is Health.HEALTHY:\n",
    ),
    Mutant(
        "priority 0 is said before the addresses are gone",
        ROUTER,
        "        return (transition, *self._advertise(0)) if says_so else (transition,)\n",
        "        return (*self._advertise(0), transition) if says_so else (transition,)\n",
    ),
    Mutant(
        "a Master that is told to stop says nothing",
        ROUTER,
        "        return self._leave(now, reason, with_priority_zero=True)\n\n    def receive(",
        "        return self._leave(now, reason, with_priority_zero=False)\n\n    def receive(",
    ),
    Mutant(
        "another virtual router with our VRID is obeyed",
        "vrrp/admission.py",
        "        if not (meets or _is_known(family, acquaintances, advertisement.source)):\n",
        "        if False:\n",
    ),
    Mutant(
        "who changed its list is a stranger from then on",
        "vrrp/admission.py",
        "    return source in acquaintances.met or (family.members is not None and source in family.members)\n",
        "    return family.members is not None and source in family.members\n",
    ),
    # ----- the order of a turn -----
    Mutant(
        "timers come before what has arrived",
        TURN,
        "        self._drain(readable, READS)\n        now = self._clock.now()\n",
        "        self._engine.poll(self._clock.now())\n        self._drain(readable, READS)\n        now = self._clock.now()\n",
    ),
    Mutant(
        "after a stall nothing is read a second time",
        TURN,
        "        if deadline is not None and now - deadline > STALL:\n",
        "        if False and deadline is not None and now - deadline > STALL:\n",
    ),
    Mutant(
        "reading has no bound",
        TURN,
        "        for _ in range(reads):\n            if not unread:\n                return\n",
        "        while unread:\n",
    ),
    Mutant(
        "what is overheard is read without end",
        TURN,
        "            if left:\n                left -= self._read(listener)\n",
        "            while self._read(listener):\n                pass\n",
    ),
    Mutant(
        "links are looked at before the packets",
        TURN,
        "        self._drain(readable, READS)\n        now = self._clock.now()\n",
        "        if links_changed:\n            self._engine.take_in(self._clock.now())\n        self._drain(readable, READS)\n        now = self._clock.now()\n",
    ),
    # ----- addresses on the kernel -----
    Mutant(
        "addresses are never renewed",
        ADDRESSES,
        "        if self._renew_at is None or now < self._renew_at:\n            return {}\n",
        "        if True:\n            return {}\n",
    ),
    Mutant(
        "nothing that was taken away is put back",
        ADDRESSES,
        "            if self._apply(held.renewal())[0] == 0:\n",
        "            if False:\n",
    ),
    Mutant(
        "an address that somebody else put there is taken over",
        ADDRESSES,
        "exclusive=True) for key in fresh]",
        "exclusive=False) for key in fresh]",
    ),
    Mutant(
        "lost notifications are not noticed",
        ADDRESSES,
        "        if events is None:\n            self._log",
        "        if events is None:\n            return Changes(())\n        if events is None:\n            self._log",
    ),
    Mutant(
        "an own removal counts as somebody else's",
        ADDRESSES,
        "            if result == 0:\n                self._own_removals[address] += 1\n",
        "            if result == 0:\n                pass\n",
    ),
    Mutant(
        "a release does not wait for a renewal that is under way",
        ADDRESSES,
        "        self._end_renewal()\n        gone = [",
        "        gone = [",
    ),
    Mutant(
        "who fights for an address is answered as often as it likes",
        ADDRESSES,
        "            if len(times) == CONTESTED_TIMES and now - times[0] < CONTESTED_WITHIN:\n",
        "            if False:\n",
    ),
    Mutant(
        "an interrupted dump is taken for whole",
        ADDRESSES,
        "        if whole:\n            self._dump_at = None\n",
        "        if True:\n            self._dump_at = None\n",
    ),
    Mutant(
        "the removal of one VirtualIP takes an address that is another's by now",
        ADDRESSES,
        "if key in self._held and self._held[key].owner == owner]",
        "if key in self._held]",
    ),
    Mutant(
        "a copy of a VIP on kube-ipvs0 is a conflict",
        ADDRESSES,
        "                if link is not None and link.answers_arp and not link.loopback:\n",
        "                if link is not None:\n",
    ),
    Mutant(
        "a VIP without a subnet on its link gets no route",
        INSTANCE,
        "            if 0 < length < bits and not table.prefix_length_for(index, address):\n",
        "            if False:\n",
    ),
    Mutant(
        "the route of a VIP stays beside the host's own",
        INSTANCE,
        "            if 0 < length < bits and not table.prefix_length_for(index, address):\n",
        "            if 0 < length < bits:\n",
    ),
    Mutant(
        "a VIP has the user's prefix length on the kernel",
        INSTANCE,
        "            KernelAddress(index, address, 8 * len(address)) for address, _ in self.addresses if len(address) in served\n",
        "            KernelAddress(index, address, length) for address, length in self.addresses if len(address) in served\n",
    ),
    # ----- links and identity -----
    Mutant(
        "the source follows the kernel's order",
        INSTANCE,
        "        if current in usable:\n",
        "        if False:\n",
    ),
    Mutant(
        "a source that is away is given up at once",
        INSTANCE,
        "        if is_in_use and not self._is_over(self._lost_at.setdefault(width, now), now):\n            return\n",
        "",
    ),
    Mutant(
        "a link once found is kept for ever",
        INSTANCE,
        "        return best if self._is_over(self._doubted_since, now) else current\n",
        "        return current\n",
    ),
    Mutant(
        "a link is left for a better one at once",
        INSTANCE,
        "        return best if self._is_over(self._doubted_since, now) else current\n",
        "        return best\n",
    ),
    Mutant(
        "naming the interface makes another virtual router",
        INSTANCE,
        "        return (mine.virtual_router_id, mine.version) != (configuration.virtual_router_id, configuration.version)\n",
        "        return (mine.virtual_router_id, mine.version, mine.interface) != (\n            configuration.virtual_router_id, configuration.version, configuration.interface)\n",
    ),
    Mutant(
        "a node's own addresses are members",
        INSTANCE,
        "if len(member) == width and member not in own) - {source}",
        "if len(member) == width)",
    ),
    Mutant(
        "a changed MAC address is not announced",
        ENGINE,
        "        if link.mac != before.mac and instance.router.holds_addresses:\n",
        "        if False:\n",
    ),
    Mutant(
        "a link that comes anew under its old index is the old one",
        LISTENING,
        "        if self._gone:\n",
        "        if False:\n",
    ),
    # ----- hearing and sending -----
    Mutant(
        "a group that a link forgot is never joined again",
        LISTENING,
        "            refused = self._wire.renew(doubted)\n",
        "            refused: dict[Listener, int] = {}\n",
    ),
    Mutant(
        "a link that changed is not doubted",
        LISTENING,
        "            if listener.link in changes.changed:\n",
        "            if False:\n",
    ),
    Mutant(
        "what could not be listened on is not tried again",
        LISTENING,
        "            self._retry_at = Instant(now + self._pause)\n",
        "            self._retry_at = None\n",
    ),
    Mutant(
        "what was refused to be sent counts as sent",
        "engine/sending.py",
        "        if not code:\n",
        "        if True:\n",
    ),
    Mutant(
        "who cannot send goes on as Master",
        "engine/sending.py",
        "        return now - failure.since >= 2 * instance.interval  # and one before the first that failed\n",
        "        return False\n",
    ),
    Mutant(
        "who cannot send is tried again every second",
        "engine/sending.py",
        "        self._pauses[name] = min(Duration(2 * pause), _PAUSE_MAXIMUM)\n",
        "        self._pauses[name] = pause\n",
    ),
    Mutant(
        "an answer to ARP proves that the group is heard",
        "engine/hearing.py",
        "        if instance.unicast and instance.members:\n",
        "        if instance.members:\n",
    ),
    Mutant(
        "a proof by another virtual router counts at once",
        ENGINE,
        "(Instant(now + instance.interval + instance.interval // 2), width)",
        "(now, width)",
    ),
    # ----- conflicts and refusals -----
    Mutant(
        "an address that somebody has is taken",
        ENGINE,
        "        elif sentence and instance.refuses_conflicts:\n",
        "        elif False:\n",
    ),
    Mutant(
        "a first hold is not asked for",
        ENGINE,
        "        if not self._is_about_to_hold_first(instance):\n            return True\n        due",
        "        if True:\n            return True\n        due",
    ),
    Mutant(
        "a member's own answer is a conflict",
        "engine/conflicts.py",
        "        conflict = {address: mac for address, mac in check.answers.items() if mac not in check.members}\n",
        "        conflict = dict(check.answers)\n",
    ),
    Mutant(
        "a refused advertisement is logged each time",
        "engine/refusals.py",
        "        elif now - refusal.logged_at < LOG_EVERY:\n",
        "        elif False:\n",
    ),
    # ----- the engine -----
    Mutant(
        "edges come before the level",
        ENGINE,
        "        refused = self._enforce(instance, now)\n        if refused:\n",
        "        silent = [width for action in actions if (width := self._do(instance, action, now))]\n        actions = ()\n        refused = self._enforce(instance, now)\n        if refused:\n",
    ),
    Mutant(
        "an edit gives before it takes",
        ENGINE,
        "        for instance in instances:\n            self._take_off(instance)\n",
        "",
    ),
    Mutant(
        "an address that changes hands leaves the kernel",
        ENGINE,
        "            if next_holder is not None:\n                self.addresses.change_hands(address, next_holder.name)\n",
        "",
    ),
    Mutant(
        "a family that cannot be served takes the other along",
        ENGINE,
        "        elif len(instance.lacking) == len(instance.widths):\n",
        "        elif instance.lacking:\n",
    ),
    Mutant(
        "leftovers of a predecessor stay",
        ENGINE,
        "        for leftover in self.addresses.remove_leftovers(known):\n",
        "        for leftover in ():\n",
    ),
    Mutant(
        "a successor does not take what it was left",
        ENGINE,
        "                self.addresses.adopt(instance.name, instance.kernel_addresses, instance.routes(self.table), now)\n",
        "",
    ),
    Mutant(
        "not knowing the health is forgetting it",
        ENGINE,
        "        if health is not Health.UNKNOWN or instance.reported_health is Health.UNKNOWN:\n",
        "        if True:\n",
    ),
    Mutant(
        "two VirtualIPs with one virtual router ID on a link both run",
        ENGINE,
        "            if other is not None and other is not instance:\n                found[Obstacle.VIRTUAL_ROUTER_ID_IN_USE]",
        "            if False:\n                found[Obstacle.VIRTUAL_ROUTER_ID_IN_USE]",
    ),
)
