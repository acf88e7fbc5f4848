"""Why a virtual router changed its state, and why it stays out: closed enums, the same words everywhere.

Status, Events, metrics, logs and `holdfast status` show these values; docs/reasons.md explains each to a person.
"""

import enum


class State(enum.StrEnum):
    """RFC 9568 section 6.3 and 6.4; its "Active" is called Master here, as keepalived's users and RFC 3768 do."""

    INITIALIZE = "Initialize"
    BACKUP = "Backup"
    MASTER = "Master"


class Health(enum.StrEnum):
    """Whether this node's tracked services (and interfaces) are well."""

    HEALTHY = "Healthy"
    FAILING = "Failing"
    UNKNOWN = "Unknown"


class Reason(enum.StrEnum):
    """Why a virtual router moved from one state to another."""

    # Initialize -> Backup
    STARTED = "Started"
    LINK_UP = "LinkUp"
    SERVICE_RECOVERED = "ServiceRecovered"
    OBSTACLE_GONE = "ObstacleGone"
    # Initialize or Backup -> Master
    ADDRESS_OWNER = "AddressOwner"
    NO_MASTER_HEARD = "NoMasterHeard"
    MASTER_SILENT = "MasterSilent"
    MASTER_RELEASED = "MasterReleased"
    MASTER_FAILING = "MasterFailing"
    MASTER_STEPPED_ASIDE = "MasterSteppedAside"
    HIGHER_PRIORITY = "HigherPriority"
    SWITCHOVER = "Switchover"
    # Master -> Backup (HIGHER_PRIORITY and SWITCHOVER too)
    HEALTHIER_MASTER = "HealthierMaster"
    HIGHER_ADDRESS = "HigherAddress"
    SUPERSEDED_WHILE_STALLED = "SupersededWhileStalled"
    SUPERSEDED_WHILE_CUT_OFF = "SupersededWhileCutOff"
    # any -> Initialize
    LINK_DOWN = "LinkDown"
    INTERFACE_MISSING = "InterfaceMissing"
    NO_SOURCE_ADDRESS = "NoSourceAddress"
    SERVICE_FAILED = "ServiceFailed"
    ADDRESS_IN_USE = "AddressInUse"
    VIRTUAL_ROUTER_ID_IN_USE = "VirtualRouterIDInUse"
    KERNEL_REFUSED = "KernelRefused"
    CANNOT_SEND = "CannotSend"
    ADDRESS_CONFLICT = "AddressConflict"
    TOO_FEW_DESCRIPTORS = "TooFewDescriptors"
    ADDRESS_NOT_PERMITTED = "AddressNotPermitted"
    REMOVED = "Removed"
    STOPPED = "Stopped"


class Obstacle(enum.StrEnum):
    """What keeps a virtual router in Initialize; it runs when none is left.

    A Master whose link loses its carrier stays Master as long as the other nodes wait for it, though.
    """

    INTERFACE_MISSING = "InterfaceMissing"
    LINK_DOWN = "LinkDown"
    NO_SOURCE_ADDRESS = "NoSourceAddress"
    SERVICE_FAILED = "ServiceFailed"
    ADDRESS_IN_USE = "AddressInUse"
    VIRTUAL_ROUTER_ID_IN_USE = "VirtualRouterIDInUse"
    KERNEL_REFUSED = "KernelRefused"
    CANNOT_SEND = "CannotSend"
    ADDRESS_CONFLICT = "AddressConflict"
    TOO_FEW_DESCRIPTORS = "TooFewDescriptors"
    ADDRESS_NOT_PERMITTED = "AddressNotPermitted"
    STOPPED = "Stopped"
