"""What is counted, named after RFC 8347 (ietf-vrrp) where it has the counter."""

import enum


class Counter(enum.StrEnum):
    """One counter of a virtual router, or of a link for packets that belong to none of ours."""

    # RFC 8347
    ADVERTISEMENT_RCVD = "advertisement-rcvd"
    ADVERTISEMENT_SENT = "advertisement-sent"
    PRIORITY_ZERO_PKTS_RCVD = "priority-zero-pkts-rcvd"
    PRIORITY_ZERO_PKTS_SENT = "priority-zero-pkts-sent"
    CHECKSUM_ERRORS = "checksum-errors"
    VERSION_ERRORS = "version-errors"
    VRID_ERRORS = "vrid-errors"
    IP_TTL_ERRORS = "ip-ttl-errors"
    PACKET_LENGTH_ERRORS = "packet-length-errors"
    INVALID_TYPE_PKTS_RCVD = "invalid-type-pkts-rcvd"
    INTERVAL_ERRORS = "interval-errors"
    ADDRESS_LIST_ERRORS = "address-list-errors"
    # RFC 2787 (the MIB of VRRPv2), for its simple text password
    AUTH_TYPE_MISMATCH = "auth-type-mismatch"
    AUTH_FAILURES = "auth-failures"
    # RFC 9568 errata 8299, 8301, 8298
    ADDRESS_COUNT_ZERO = "address-count-zero"
    INTERVAL_ZERO = "interval-zero"
    OWNER_CONFLICTS = "owner-conflicts"
    # ours
    CHECKSUM_WITHOUT_PSEUDO_HEADER = "checksum-without-pseudo-header"
    OWN_PACKETS = "own-packets"
    FOREIGN_ROUTERS = "foreign-routers"
    OTHER_VIRTUAL_ROUTERS = "other-virtual-routers"
    LOWER_PRIORITY = "lower-priority"
    STRAY_FAREWELLS = "stray-farewells"
    NOT_RUNNING = "not-running"
    INTERVAL_CAPPED = "interval-capped"
    SEND_ERRORS = "send-errors"
