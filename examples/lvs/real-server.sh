#!/bin/sh
# On every real server, as root: have the VIP on the loopback, so that its own service takes what the director passes on,
# and never answer ARP for it: the address on the link is the director's. Undone by a restart of the machine.
set -eu
VIP=10.77.0.200

# First, so that not a single answer gets out (arp_ignore, arp_announce in Documentation/networking/ip-sysctl.rst).
sysctl -q net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
ip address replace "$VIP/32" dev lo
