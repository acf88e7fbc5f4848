#!/bin/sh
# Tells conntrackd which host has the VIP: HOLDFAST_STATE says so. Install as /usr/local/sbin/conntrack-state.
case "$HOLDFAST_STATE" in
MASTER)
    # What the other host told goes into the kernel; then conntrackd begins anew with what the kernel has, and tells it.
    conntrackd -c && conntrackd -f && conntrackd -R && conntrackd -B
    ;;
BACKUP)
    # What the kernel has goes soon, and the other host is asked for what it has.
    conntrackd -t && conntrackd -n
    ;;
*)
    conntrackd -t
    ;;
esac
