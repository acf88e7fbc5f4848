"""A transition as a sentence for people: what happened, who, and the figures behind it."""

from __future__ import annotations

from ipaddress import ip_address

from holdfast_api.reasons import Reason, State
from holdfast_speaker.vrrp.actions import Transitioned

_SENTENCES = {
    Reason.STARTED: "started",
    Reason.LINK_UP: "the link is usable again; listening first",
    Reason.SERVICE_RECOVERED: "the services on this node recovered",
    Reason.OBSTACLE_GONE: "the obstacle is gone; listening first",
    Reason.ADDRESS_OWNER: "this node owns the addresses (priority 255)",
    Reason.NO_MASTER_HEARD: "no Master was heard",
    Reason.MASTER_SILENT: "{peer} (priority {peer_priority}) was silent for {silent}",
    Reason.MASTER_RELEASED: "{peer} (priority {peer_priority}) gave the addresses up",
    Reason.MASTER_FAILING: "{peer} is failing (priority {peer_priority}), this node is healthy",
    Reason.MASTER_STEPPED_ASIDE: "{peer} asked to be replaced (priority {peer_priority})",
    Reason.HIGHER_PRIORITY: "{peer} has priority {peer_priority}, this node {priority}",
    Reason.SWITCHOVER: "a switchover was asked for",
    Reason.HEALTHIER_MASTER: "{peer} is healthier (priority {peer_priority}, this node {priority})",
    Reason.HIGHER_ADDRESS: "{peer} has the same priority {peer_priority} and the higher address",
    Reason.SUPERSEDED_WHILE_STALLED: "{peer} took over while this process was not running",
    Reason.SUPERSEDED_WHILE_CUT_OFF: "{peer} took over while this node was cut off",
    Reason.LINK_DOWN: "the link is down",
    Reason.INTERFACE_MISSING: "the interface is missing",
    Reason.NO_SOURCE_ADDRESS: "the interface has no address to send from",
    Reason.SERVICE_FAILED: "the services on this node fail, and whenFailing is Release",
    Reason.ADDRESS_IN_USE: "an address is on an interface already and is not Holdfast's",
    Reason.VIRTUAL_ROUTER_ID_IN_USE: "another VirtualIP has this virtual router ID on the link",
    Reason.KERNEL_REFUSED: "the kernel refused the addresses",
    Reason.CANNOT_SEND: "no advertisement could be sent for three intervals",
    Reason.ADDRESS_CONFLICT: "another host answers for an address",
    Reason.TOO_FEW_DESCRIPTORS: "this process may not open another socket",
    Reason.ADDRESS_NOT_PERMITTED: "this engine may not hold one of its addresses",
    Reason.REMOVED: "the VirtualIP was removed from the configuration",
    Reason.STOPPED: "Holdfast was stopped",
}


def sentence(transition: Transitioned) -> str:
    """Why a transition happened.

    >>> from holdfast_speaker.vrrp.instants import Duration, Instant
    >>> sentence(Transitioned(Instant(0), State.BACKUP, State.MASTER, Reason.MASTER_SILENT, 99, bytes((10, 0, 0, 1)),
    ...     100, Duration(3_609_375_000)))
    '10.0.0.1 (priority 100) was silent for 3.609 s'
    """
    text = _SENTENCES[transition.reason]
    if transition.reason is Reason.MASTER_RELEASED and transition.peer is None:
        text = "the Master gave the addresses up"
    if transition.reason is Reason.SWITCHOVER and transition.to_state is State.BACKUP:
        text = "{peer} took the addresses as was asked for"
    if transition.reason is Reason.CANNOT_SEND and transition.to_state is State.BACKUP:
        text = "no advertisement to {peer} could be sent for three intervals"
    if transition.reason is Reason.OBSTACLE_GONE and transition.detail:
        return f"{transition.detail}; listening first"
    told = text.format(
        peer=ip_address(transition.peer) if transition.peer else "nobody",
        peer_priority=transition.peer_priority,
        priority=transition.priority,
        silent=f"{transition.silent / 1e9:.3f} s",
    )
    if transition.unproved:
        told += f"; nobody else was heard on this link yet, so it advertises {transition.priority}"
    return f"{told}: {transition.detail}" if transition.detail else told
