"""vrrp_instance."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from ipaddress import IPv4Address, IPv6Address, ip_interface

from holdfast_api.addresses import parse_address, parse_interface
from holdfast_api.resources import PRIORITY_OWNER
from holdfast_cli.convert.keywords import ADDRESS_OPTIONS, ADDRESS_OPTIONS_WITH_VALUE, INSTANCE
from holdfast_cli.convert.ledger import Kind, Ledger, Statement
from holdfast_cli.convert.model import Address, Globals, Instance
from holdfast_cli.convert.notifications import NOTIFY, read_notify
from holdfast_cli.convert.scripts import Scripts, is_interface_name, read_tracked_interfaces, read_tracked_scripts
from holdfast_cli.convert.values import (
    MULTICAST_GROUPS,
    argument,
    block_of,
    flag,
    multicast_group,
    seconds,
    settings,
    whole,
)

_BLOCKS = frozenset(
    (
        "authentication",
        "track_interface",
        "track_script",
        "unicast_peer",
        "virtual_ipaddress",
        "virtual_ipaddress_excluded",
    )
)
_FAMILY_FROM = {"virtual_ipaddress": 0, "virtual_ipaddress_excluded": 1}
_DEFAULTS = ("accept", "check_unicast_src")
"""What Holdfast always does: the VIP accepts, and `foreignRouters: Refuse` is the default."""

_PASSWORD = re.compile(r"[\x21-\x7e]{1,8}")
_PASSWORD_BYTES = 8
_SCOPES = ("global", "0")
_OPTIONS_WITH_VALUE = frozenset((*ADDRESS_OPTIONS_WITH_VALUE, "dev", "scope"))


class InstanceReader:
    """Reads the instances of one host."""

    def __init__(self, node: str, said: Globals, scripts: Scripts, ledger: Ledger) -> None:
        self._node = node
        self._globals = said
        self._scripts = scripts
        self._ledger = ledger
        self._readers: Mapping[str, Callable[[Instance, Statement], None]] = {
            "state": self._state,
            "interface": self._interface,
            "virtual_router_id": self._virtual_router_id,
            "priority": self._priority,
            "advert_int": self._advert_int,
            "version": self._version,
            "nopreempt": self._nopreempt,
            "preempt": self._preempt,
            "preempt_delay": self._preempt_delay,
            "mcast_src_ip": self._source,
            "unicast_src_ip": self._source,
            "unicast_peer": self._peers,
            "authentication": self._authentication,
            "virtual_ipaddress": self._addresses,
            "virtual_ipaddress_excluded": self._excluded,
            "strict_mode": self._strict_mode,
            "track_script": self._track_script,
            "track_interface": self._track_interface,
            **dict.fromkeys(NOTIFY, self._notify),
        }

    def read(self, statement: Statement) -> Instance:
        """One vrrp_instance; what is wrong goes to the ledger."""
        if len(statement.words) != 2:
            self._ledger.refuse(statement.place, statement.keyword, "must have one name")
        instance = Instance(self._node, " ".join(statement.arguments), statement)
        lines = list(settings(block_of(statement, self._ledger), _BLOCKS, self._ledger))
        instance.said = {line.keyword: line for line in lines}
        # The family decides about the version and what peers may be, and virtual_ipaddress about the family.
        for line in sorted(lines, key=lambda line: _FAMILY_FROM.get(line.keyword, 2)):
            if reader := self._readers.get(line.keyword):
                reader(instance, line)
            elif line.keyword in _DEFAULTS:
                if flag(line, self._ledger):
                    self._ledger.carry(line)
            elif line.keyword == "mcast_dst_ip":
                multicast_group(line, tuple(MULTICAST_GROUPS.values()), self._ledger)
            elif line.keyword in INSTANCE:
                self._ledger.leave_out(line, INSTANCE[line.keyword])
            else:
                instead = "goes on without it"
                if line.block is not None:
                    instead += (
                        ", and takes the end of its block for that of vrrp_instance, so that it misses what follows"
                    )
                self._ledger.complain(line, "is no keyword of vrrp_instance", instead)
        self._complete(instance)
        return instance

    def _complete(self, instance: Instance) -> None:
        name = f"vrrp_instance {instance.name}"
        if "virtual_router_id" not in instance.said:
            self._ledger.refuse(instance.statement.place, name, "must have a virtual_router_id")
        # keepalived.conf(5): the interface can be omitted if unicasting.
        if "interface" not in instance.said and not instance.peers:
            self._ledger.refuse(instance.statement.place, name, "must have an interface")
        if instance.starts_as_master and "priority" not in instance.said:
            instance.priority = PRIORITY_OWNER
            text = "without a priority keepalived takes this host for the owner of the addresses: priority 255"
            self._ledger.remark(instance.where("state"), text)
        instance.start_delay = self._globals.start_delay_seconds
        if self._globals.start_delay is not None:
            instance.said.setdefault("vrrp_startup_delay", self._globals.start_delay)
        self._settle_version(instance)
        self._settle_interval(instance)
        self._settle_strictness(instance)
        self._settle_authentication(instance)

    def _settle_version(self, instance: Instance) -> None:
        if instance.family == 4:
            instance.version = instance.version if "version" in instance.said else self._globals.version or 2
        elif instance.said.get("version") and instance.version == 2:
            self._ledger.differs(instance.said["version"], "IPv6 has version 3 alone, in keepalived too")
        if instance.family == 6:
            instance.version = 3

    def _settle_interval(self, instance: Instance) -> None:
        wanted, statement = instance.interval_ms, instance.where("advert_int")
        if instance.version == 2:
            # keepalived rounds as C does, and so never to 0 (measured: 0.5 is 1, 1.4 is 1).
            rounded = max(1000, (wanted + 500) // 1000 * 1000)
        else:
            rounded = max(10, (wanted + 5) // 10 * 10)
        longest = 40_000 if instance.version == 2 else 40_950
        if rounded != wanted:
            unit = "whole seconds" if instance.version == 2 else "hundredths of a second"
            text = f"becomes {rounded} ms: version {instance.version} has {unit}, and keepalived rounds too"
            self._ledger.differs(statement, text)
        if rounded > longest:
            self._ledger.differs(statement, f"{rounded} ms becomes {longest} ms, the longest that Holdfast has")
        instance.interval_ms = min(rounded, longest)

    def _settle_strictness(self, instance: Instance) -> None:
        """vrrp_strict and strict_mode: no authentication, and packets to the VIP are dropped (`no_accept`)."""
        own, general = instance.said.get("strict_mode"), self._globals.strict
        line = general if instance.strict is None else own if instance.strict else None
        if line is None:
            return
        if instance.password:
            instance.password = ""
            text = "strict mode has no authentication, and keepalived leaves it out too"
            self._ledger.leave_out(instance.where("authentication"), text)
        text = (
            "strict mode: keepalived drops packets to the VIP itself (no_accept), as of ping or a service on the host; "
            "Holdfast accepts them"
        )
        self._ledger.differs(line, text)

    def _strict_mode(self, instance: Instance, line: Statement) -> None:
        words = line.arguments[:1]
        if words in (["off"], ["false"], ["no"], ["0"]):
            instance.strict = False
            self._ledger.carry(line)
        elif words in ([], ["on"], ["true"], ["yes"], ["1"]):
            instance.strict = True
            self._ledger.carry(line)
        else:
            self._ledger.complain(line, f"must be on or off, not {words[0]!r}", "goes by vrrp_strict")

    def _settle_authentication(self, instance: Instance) -> None:
        if instance.password and instance.version != 2:
            instance.password = ""
            text = "version 3 has no authentication, and keepalived leaves it out too"
            self._ledger.leave_out(instance.where("authentication"), text)

    def _state(self, instance: Instance, line: Statement) -> None:
        text = argument(line, self._ledger)
        if text in ("MASTER", "BACKUP"):
            instance.starts_as_master = text == "MASTER"
            self._ledger.carry(line)
            if instance.starts_as_master:
                self._ledger.remark(line, "every node starts as Backup and listens before it takes the VIP")
        elif text is not None:
            self._ledger.complain(line, f"must be MASTER or BACKUP, not {text!r}", "takes BACKUP")

    def _interface(self, instance: Instance, line: Statement) -> None:
        text = argument(line, self._ledger)
        if text is not None and is_interface_name(line, text, self._ledger):
            instance.interface = text
            self._ledger.carry(line)

    def _virtual_router_id(self, instance: Instance, line: Statement) -> None:
        instance.virtual_router_id = whole(line, self._ledger, 1, 255) or 0

    def _priority(self, instance: Instance, line: Statement) -> None:
        instance.priority = whole(line, self._ledger, 1, 255, "takes 100") or instance.priority

    def _advert_int(self, instance: Instance, line: Statement) -> None:
        value = seconds(line, self._ledger, Decimal("0.01"), Decimal(255), "takes 1 second")
        if value is not None:
            instance.interval_ms = int(value * 1000)

    def _version(self, instance: Instance, line: Statement) -> None:
        instance.version = whole(line, self._ledger, 2, 3, "takes the default") or instance.version

    def _nopreempt(self, instance: Instance, line: Statement) -> None:
        if flag(line, self._ledger):
            instance.nopreempt = True
            self._ledger.carry(line)

    def _preempt(self, instance: Instance, line: Statement) -> None:
        if not flag(line, self._ledger):
            return
        self._ledger.carry(line)
        if "nopreempt" in instance.said:
            self._ledger.leave_out(line, "nopreempt is there too, and counts")

    def _preempt_delay(self, instance: Instance, line: Statement) -> None:
        instance.preempt_delay = seconds(line, self._ledger, Decimal(0), Decimal(1000), "has none") or Decimal(0)

    def _source(self, instance: Instance, line: Statement) -> None:
        text = argument(line, self._ledger)
        address = self._router_address(instance, line, text) if text is not None else None
        if address is None:
            return
        # With peers unicast_src_ip is the one that counts, without them mcast_src_ip.
        if line.keyword == "unicast_src_ip" or "unicast_src_ip" not in instance.said:
            instance.source = address
            self._ledger.carry(line)
        else:
            self._ledger.leave_out(line, "unicast_src_ip is there too, and counts")

    def _router_address(self, instance: Instance, line: Statement, text: str) -> IPv4Address | IPv6Address | None:
        bare, slash, length = text.partition("/")
        address = parse_address(bare)
        if address is None:
            self._ledger.complain(line, f"must be an IPv4 or IPv6 address, not {text!r}", "goes on without it")
        elif address.version != instance.family:
            reason = f"must be of the family of the virtual addresses, which {text} is not"
            self._ledger.complain(line, reason, "goes on without it")
        else:
            if slash:
                self._ledger.remark(line, f"the prefix length {length} says nothing here, in keepalived neither")
            return address
        return None

    def _peers(self, instance: Instance, line: Statement) -> None:
        for entry in block_of(line, self._ledger):
            address = self._router_address(instance, entry, entry.keyword)
            if address is not None:
                self._ledger.carry(entry)
                instance.peers.append(address)
            self._peer_options(entry)

    def _peer_options(self, entry: Statement) -> None:
        words = entry.arguments
        for option, value in zip(words[::2], [*words[1::2], ""], strict=False):
            if option not in ("min_ttl", "max_ttl") or not (value.isascii() and value.isdecimal()):
                reason = f"may be followed by min_ttl N and max_ttl N, not by {option} {value}".rstrip()
                self._ledger.complain(entry, reason, "passes over that", kind=Kind.DIFFERS)
                return
        if words:
            self._ledger.leave_out(entry, f"a TTL of 255 is always expected, so without {' '.join(words)}")

    def _authentication(self, instance: Instance, line: Statement) -> None:
        said = {entry.keyword: entry for entry in settings(block_of(line, self._ledger), frozenset(), self._ledger)}
        for entry in said.values():
            if entry.keyword not in ("auth_type", "auth_pass"):
                self._ledger.complain(entry, "is no keyword of authentication", "goes on without it")
        kind = self._authentication_type(said.get("auth_type"))
        password = argument(said["auth_pass"], self._ledger) if "auth_pass" in said else None
        if password is None:
            self._ledger.leave_out(line, "has no auth_pass: keepalived leaves authentication out too")
        elif kind is None:
            text = "without an auth_type that is PASS or AH keepalived has no authentication"
            self._ledger.leave_out(said["auth_pass"], text)
        elif kind == "AH":
            self._ledger.leave_out(said["auth_pass"], "is the key of AH, which Holdfast has not")
        else:
            instance.password = self._password(said["auth_pass"], password)

    def _authentication_type(self, line: Statement | None) -> str | None:
        if line is None:
            return None
        text = argument(line, self._ledger)
        if text == "AH":
            reason = "Holdfast has no AH: peers that ask for it do not obey, and none is asked"
            self._ledger.leave_out(line, reason)
        elif text == "PASS":
            self._ledger.carry(line)
        elif text is not None:
            self._ledger.complain(line, f"must be PASS or AH, not {text!r}", "has no authentication then")
            return None
        return text

    def _password(self, line: Statement, text: str) -> str:
        first = text.encode()[:_PASSWORD_BYTES].decode(errors="replace")
        if not _PASSWORD.fullmatch(first):
            reason = "Holdfast's passwords are printable ASCII without spaces: routers with another one do not obey it"
            self._ledger.leave_out(line, reason)
            return ""
        self._ledger.carry(line)
        if first != text:
            self._ledger.remark(line, f"only the first {_PASSWORD_BYTES} characters count, as in keepalived")
        return first

    def _addresses(self, instance: Instance, line: Statement) -> None:
        for entry in block_of(line, self._ledger):
            self._address(instance, entry, excluded=False)

    def _excluded(self, instance: Instance, line: Statement) -> None:
        if line.block:
            self._ledger.differs(
                line,
                "keepalived moves these with the VIP and does not advertise them; Holdfast advertises all that move. "
                "Its own nodes and newer keepalived peers only count the difference; keepalived up to 2.3.2 "
                "drops such advertisements, so do not let both run at the same time",
            )
        for entry in block_of(line, self._ledger):
            self._address(instance, entry, excluded=True)

    def _address(self, instance: Instance, entry: Statement, *, excluded: bool) -> None:
        interface = parse_interface(entry.keyword)
        if interface is None:
            bare = parse_address(entry.keyword.partition("/")[0])
            reason = f"must be an IPv4 or IPv6 address with an optional prefix length, not {entry.keyword!r}"
            if bare is None:
                self._ledger.complain(entry, reason, "passes over it", keyword="address")
                return
            interface = ip_interface(bare)
            instead = f"goes on with another length; here it is {interface}"
            self._ledger.complain(entry, reason, instead, keyword="address", kind=Kind.DIFFERS)
        if not instance.addresses:
            instance.family = interface.version
        if not excluded and interface.version != instance.family:
            reason = f"must be of the family of the others in virtual_ipaddress, which {interface} is not"
            self._ledger.complain(entry, reason, "passes over it", keyword="address")
            return
        if entry.arguments and (entry.arguments[-1] in _OPTIONS_WITH_VALUE):
            reason = f"must have a value after {entry.arguments[-1]}"
            self._ledger.complain(entry, reason, "passes over the address")
            return
        self._ledger.carry(entry)
        instance.addresses.append(Address(interface, entry, excluded))
        self._address_options(instance, entry)

    def _address_options(self, instance: Instance, entry: Statement) -> None:
        words = iter(entry.arguments)
        for word in words:
            value = next(words, "") if word in _OPTIONS_WITH_VALUE else ""
            if word in ADDRESS_OPTIONS_WITH_VALUE:
                self._ledger.leave_out(entry, f"{word} {value}: {ADDRESS_OPTIONS_WITH_VALUE[word]}")
            elif word in ADDRESS_OPTIONS:
                self._ledger.leave_out(entry, f"{word}: {ADDRESS_OPTIONS[word]}")
            elif word == "dev":
                self._device(instance, entry, value)
            elif word == "scope" and value not in _SCOPES:
                self._ledger.leave_out(entry, f"scope {value}: Holdfast's addresses have the scope global")
            elif word not in (
                "scope",
                "-nodad",
            ):  # Holdfast's IPv6 addresses never have duplicate address detection
                self._ledger.complain(entry, f"has the unknown option {word!r}", "passes over that", kind=Kind.DIFFERS)

    def _device(self, instance: Instance, entry: Statement, name: str) -> None:
        statement = instance.said.get("interface")
        if statement is None or statement.arguments[:1] != [name]:
            own = " ".join(statement.arguments[:1]) if statement is not None else "it has none"
            reason = (
                f"dev {name} must be the interface of the vrrp_instance ({own}): a VirtualIP holds its addresses where "
                "its advertisements are; give them a vrrp_instance of their own on that interface"
            )
            self._ledger.refuse(entry.place, entry.keyword, reason)

    def _notify(self, instance: Instance, line: Statement) -> None:
        arguments = ("INSTANCE", instance.name, "$(HOLDFAST_STATE)", "$(HOLDFAST_PRIORITY)")
        found = read_notify(line, self._globals, arguments, self._ledger)
        if found is not None:
            instance.notify.append(found)

    def _track_script(self, instance: Instance, line: Statement) -> None:
        instance.scripts += read_tracked_scripts(line, instance.statement, self._scripts, self._ledger)

    def _track_interface(self, instance: Instance, line: Statement) -> None:
        for tracked in read_tracked_interfaces(line, self._ledger):
            if instance.said.get("interface") and tracked.name in instance.said["interface"].arguments[:1]:
                self._ledger.remark(tracked.statement, "is the instance's own interface, whose loss counts anyway")
            else:
                instance.interfaces.append(tracked)
