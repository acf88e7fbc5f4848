"""keepalived's keywords that have no counterpart, and what happens instead.

The keywords are those of keepalived.conf(5) of keepalived 2.2.7, those of its parser that the manual lacks, and a few
that newer versions have.
A keyword that is neither here nor in a reader's table is left out with a complaint, as in keepalived.
"""

from __future__ import annotations

from collections.abc import Mapping

_MAIL = "Holdfast sends no mail; moves and their reasons are in the log and in `holdfast status`"
_FIFO = "Holdfast writes no FIFO: `notify` and `holdfast run --notify` give each change to a command"
_OWN_PROCESS = "commands before and after `holdfast run` belong to its unit (ExecStartPre, ExecStopPost)"
_GARP = "Holdfast sends gratuitous ARP and unsolicited NA on a schedule of its own"
_MAC = "the VIP answers with the interface's own MAC address; gratuitous ARP and unsolicited NA tell the neighbours"
_PROCESS = "concerns keepalived's own process; Holdfast's engine takes real-time priority and locked memory by itself"
_FIREWALL = "Holdfast sets no firewall rules"
_SNMP = "Holdfast has no SNMP or D-Bus; ask `holdfast status -o json`"
_RELOAD = "Holdfast reads changed files by itself, and a broken one changes nothing"
_SCRIPT_USER = "probes run as the user of `holdfast run`"
_STATIC = "what stays on the machine belongs to its network configuration (systemd-networkd, ifupdown)"
_ROUTES = "Holdfast moves addresses only; routes and rules have to be there on every host"
_LVS = "Holdfast balances no load: kube-proxy does in a cluster, IPVS or a proxy with its own configuration elsewhere"
_BFD = "Holdfast speaks no BFD; the advertisement interval can be as short as 10 ms"
_ACCEPT = "packets to the VIP are accepted, as they are in keepalived by default"
_TRACK_OTHER = "a probe (`exec`) of the same thing is the counterpart, and has to be written by hand"
_CHECKS = "Holdfast's rules are fixed: RFC 9568, and keepalived's behaviour where peers need it"
_DOWN_TIMER = "Holdfast waits for three advertisements and the skew time, as the RFCs have it"
_DEBUG = "Holdfast logs with --log-level"
_BUFFERS = "Holdfast sizes its socket buffers by itself"

TOP_LEVEL: Mapping[str, str] = {
    **dict.fromkeys(("static_ipaddress", "static_routes", "static_rules", "track_group"), _STATIC),
    **dict.fromkeys(("virtual_server", "virtual_server_group", "SSL"), _LVS),
    "bfd_instance": _BFD,
    **dict.fromkeys(("track_file", "vrrp_track_file", "vrrp_track_process"), _TRACK_OTHER),
    "garp_group": _GARP,
    **dict.fromkeys(
        ("linkbeat_interfaces", "linkbeat_use_polling"),
        "Holdfast hears of the carrier from the kernel (netlink)",
    ),
    "interface_up_down_delays": "a lost carrier counts at once; a link that comes up is no reason to take the VIP",
    **dict.fromkeys(
        ("net_namespace", "net_namespace_ipvs", "namespace_with_ipsets"),
        "`holdfast run` works in the namespace that it is started in (`ip netns exec`)",
    ),
    **dict.fromkeys(("instance", "use_pid_dir", "child_wait_time"), _PROCESS),
}

GLOBAL: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "notification_email",
            "notification_email_from",
            "smtp_server",
            "smtp_helo_name",
            "smtp_connect_timeout",
            "smtp_alert",
            "smtp_alert_vrrp",
            "smtp_alert_checker",
            "no_email_faults",
        ),
        _MAIL,
    ),
    **dict.fromkeys(
        (
            "vrrp_notify_fifo",
            "vrrp_notify_fifo_script",
            "vrrp_notify_priority_changes",
            "notify_fifo",
            "notify_fifo_script",
            "fifo_write_vrrp_states_on_reload",
        ),
        _FIFO,
    ),
    **dict.fromkeys(
        ("startup_script", "startup_script_timeout", "shutdown_script", "shutdown_script_timeout"), _OWN_PROCESS
    ),
    **dict.fromkeys(
        (
            "vrrp_garp_master_delay",
            "vrrp_garp_master_repeat",
            "vrrp_garp_master_refresh",
            "vrrp_garp_master_refresh_repeat",
            "vrrp_garp_lower_prio_delay",
            "vrrp_garp_lower_prio_repeat",
            "vrrp_garp_interval",
            "vrrp_gna_interval",
            "vrrp_min_garp",
            "vrrp_garp_extra_if",
            "vrrp_vmac_garp_intvl",
        ),
        _GARP,
    ),
    **dict.fromkeys(("vmac_prefix", "vmac_addr_prefix", "use_symlink_paths"), _MAC),
    **dict.fromkeys(
        (
            "process_names",
            "process_name",
            "vrrp_process_name",
            "checker_process_name",
            "lvs_process_name",
            "bfd_process_name",
            "instance",
            "use_pid_dir",
            "child_wait_time",
            "max_auto_priority",
            "min_auto_priority_delay",
            "umask",
            "tmp_config_directory",
            "config_save_dir",
            "data_use_instance",
            "vrrp_delay_after_boot",
            "state_dump_file",
            "stats_dump_file",
            "json_dump_file",
            "json_version",
            "iproute_etc_dir",
            "iproute_usr_dir",
            *(
                f"{process}_{word}"
                for process in ("vrrp", "checker", "bfd")
                for word in (
                    "priority",
                    "no_swap",
                    "rt_priority",
                    "cpu_affinity",
                    "rlimit_rttime",
                    "rlimit_rtime",
                )
            ),
        ),
        _PROCESS,
    ),
    **dict.fromkeys(
        (
            "vrrp_iptables",
            "vrrp_ipsets",
            "disable_local_igmp",
            "nftables",
            "nftables_priority",
            "nftables_counters",
            "nftables_ifindex",
            "nftables_ipvs",
            "nftables_ipvs_priority",
            "nftables_ipvs_start_fwmark",
        ),
        _FIREWALL,
    ),
    **dict.fromkeys(
        (
            "snmp_socket",
            "enable_traps",
            "enable_snmp_vrrp",
            "enable_snmp_keepalived",
            "enable_snmp_rfc",
            "enable_snmp_rfcv2",
            "enable_snmp_rfcv3",
            "enable_snmp_checker",
            "enable_dbus",
            "dbus_service_name",
            "dbus_no_interface_name",
            "snmp_rs_stats_update_interval",
            "snmp_vs_stats_update_interval",
        ),
        _SNMP,
    ),
    **dict.fromkeys(("reload_check_config", "reload_time_file", "reload_repeat", "reload_file"), _RELOAD),
    "enable_script_security": "notify scripts that others can write to are never run as root; probes are not looked at",
    "set_supplementary_groups": "a notify script has the other groups of its user where no group is given",
    **dict.fromkeys(
        (
            "lvs_sync_daemon",
            "lvs_timeouts",
            "lvs_flush",
            "lvs_flush_on_stop",
            "lvs_flush_onstop",
            "lvs_notify_fifo",
            "lvs_notify_fifo_script",
            "checker_log_all_failures",
            "rs_init_notifies",
            "no_checker_emails",
        ),
        _LVS,
    ),
    **dict.fromkeys(
        (
            "vrrp_skip_check_adv_addr",
            "vrrp_lower_prio_no_advert",
            "vrrp_higher_prio_send_advert",
            "vrrp_owner_ignore_adverts",
            "v3_checksum_as_v2",
        ),
        _CHECKS,
    ),
    "vrrp_down_timer_adverts": _DOWN_TIMER,
    "log_unknown_vrids": "`holdfast status` counts them under `packets of other virtual routers`",
    **dict.fromkeys(
        (
            "vrrp_netlink_cmd_rcv_bufs",
            "vrrp_netlink_cmd_rcv_bufs_force",
            "vrrp_netlink_monitor_rcv_bufs",
            "vrrp_netlink_monitor_rcv_bufs_force",
            "process_monitor_rcv_bufs",
            "process_monitor_rcv_bufs_force",
            "lvs_netlink_cmd_rcv_bufs",
            "lvs_netlink_cmd_rcv_bufs_force",
            "lvs_netlink_monitor_rcv_bufs",
            "lvs_netlink_monitor_rcv_bufs_force",
            "vrrp_rx_bufs_policy",
            "vrrp_rx_bufs_multiplier",
        ),
        _BUFFERS,
    ),
    "default_interface": _STATIC,
    "dynamic_interfaces": "Holdfast waits for an interface that does not exist yet, and acts when one goes",
    "linkbeat_use_polling": "Holdfast hears of the carrier from the kernel (netlink)",
    "random_seed": "${_RANDOM} is refused",
    "include_check": "an include that finds no file is reported anyway; those with a check of their own are refused",
    **dict.fromkeys(
        ("net_namespace", "net_namespace_ipvs", "namespace_with_ipsets"),
        "`holdfast run` works in the namespace that it is started in (`ip netns exec`)",
    ),
}

_NOTIFICATIONS: Mapping[str, str] = {
    "notify_deleted": "STOP is told of a VirtualIP that is removed; keepalived tells DELETED with this, else FAULT",
    "notify_priority_changes": _FIFO,
    "smtp_alert": _MAIL,
    **dict.fromkeys(("track_file", "track_process"), _TRACK_OTHER),
    "track_bfd": _BFD,
}

INSTANCE: Mapping[str, str] = {
    **_NOTIFICATIONS,
    "notify_master_rx_lower_pri": "Holdfast tells changes of state alone; such a Master announces its addresses again",
    **dict.fromkeys(("use_vmac", "use_vmac_addr", "vmac_xmit_base", "use_ipvlan"), _MAC),
    "native_ipv6": "the addresses tell the family, in keepalived too",
    "vrf": "Holdfast works on the interface of the VirtualIP",
    "dont_track_primary": "a node whose interface is down or has no carrier always gives the VIP up",
    "track_src_ip": "Holdfast needs the source address to advertise, but does not watch it",
    **dict.fromkeys(("unicast_ttl", "old_unicast_checksum"), _CHECKS),
    "unicast_fault_no_peer": "a VirtualIP with the transport Unicast always has peers",
    **dict.fromkeys(
        (
            "garp_master_delay",
            "garp_master_repeat",
            "garp_lower_prio_delay",
            "garp_lower_prio_repeat",
            "garp_master_refresh",
            "garp_master_refresh_repeat",
            "garp_extra_if",
            "vmac_garp_intvl",
        ),
        _GARP,
    ),
    "down_timer_adverts": _DOWN_TIMER,
    **dict.fromkeys(
        (
            "lower_prio_no_advert",
            "higher_prio_send_advert",
            "skip_check_adv_addr",
            "owner_ignore_adverts",
            "v3_checksum_as_v2",
        ),
        _CHECKS,
    ),
    "promote_secondaries": "addresses that the kernel removes with another one are put back",
    **dict.fromkeys(("virtual_routes", "virtual_rules"), _ROUTES),
    "no_accept": f"{_ACCEPT}; a firewall rule is the counterpart",
    "debug": _DEBUG,
    "kernel_rx_buf_size": _BUFFERS,
    "no_virtual_ipaddress": "an instance without addresses elects nobody: there is no VirtualIP without one",
    **dict.fromkeys(("thread_timer_expired", "timer_expired_backup"), _DEBUG),
    "auth_hmac": "Holdfast has no HMAC: peers that ask for it do not obey, and none is asked",
    "linkbeat_use_polling": "Holdfast hears of the carrier from the kernel (netlink)",
    "lvs_sync_daemon_interface": _LVS,
}

SCRIPT: Mapping[str, str] = {
    "user": _SCRIPT_USER,
    "init_fail": "a node counts as neither healthy nor failing until each probe has had its first result",
}

SYNC_GROUP: Mapping[str, str] = {
    **_NOTIFICATIONS,
    "global_tracking": "what one member tracks, all members track anyway",
}

ADDRESS_OPTIONS_WITH_VALUE: Mapping[str, str] = {
    "brd": "Holdfast sets no broadcast address on a VIP",
    "broadcast": "Holdfast sets no broadcast address on a VIP",
    "label": "Holdfast gives addresses no labels",
    "peer": "Holdfast holds no point-to-point addresses",
    "preferred_lft": "Holdfast sets the lifetimes: they are what takes the VIP from an engine that is dead",
    "track_group": _STATIC,
}

ADDRESS_OPTIONS: Mapping[str, str] = {
    "home": "Holdfast sets no such flag",
    "mngtmpaddr": "Holdfast sets no such flag",
    "noprefixroute": "Holdfast leaves the prefix's route to the kernel: give the address a /32 or /128 to have none",
    "autojoin": "Holdfast sets no such flag",
    "no_track": "an address that somebody deletes is put back, and the node stays Master",
    "use_vmac": _MAC,
}
