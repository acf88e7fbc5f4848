#!/bin/sh
# Both gateways: connections to the VIP go to the server 10.77.0.13 and come back through the VIP. Who is in the middle of a
# connection that the kernel does not know is not let through.
set -eu
echo 1 >/proc/sys/net/ipv4/ip_forward
nft -f - <<'RULES'
table ip gateway {
    chain in {
        type nat hook prerouting priority dstnat;
        ip daddr 10.77.0.200 tcp dport 80 dnat to 10.77.0.13
    }
    chain out {
        type nat hook postrouting priority srcnat;
        ip daddr 10.77.0.13 tcp dport 80 snat to 10.77.0.200
    }
    chain through {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        tcp flags & (fin | syn | rst | ack) == syn ct state new accept
    }
}
RULES
