#!/bin/sh
# On both directors, as root: tell the kernel's ipvs of the VIP and its real servers, and keep asking these whether they
# are well. It runs until it is stopped, as a service would. Needs ipvsadm and curl, and a kernel with ip_vs.
set -eu
SERVICE=10.77.0.200:80
REAL_SERVERS="10.77.0.13 10.77.0.14"

ipvsadm --clear
ipvsadm --add-service --tcp-service $SERVICE --scheduler rr
for server in $REAL_SERVERS; do
    # --gatewaying is direct routing: the frame goes on to the real server, which answers the client itself.
    ipvsadm --add-server --tcp-service $SERVICE --real-server "$server:80" --gatewaying --weight 0
done

# Each director tells the other of its connections, so that they survive a move of the VIP.
ipvsadm --start-daemon master --mcast-interface eth0
ipvsadm --start-daemon backup --mcast-interface eth0
# As soon as one is established, with the client's second packet; by default with the third.
sysctl -q net.ipv4.vs.sync_threshold="2 50"

while true; do
    for server in $REAL_SERVERS; do
        weight=0
        ! curl --silent --fail --output /dev/null --max-time 1 "http://$server/" || weight=1
        ipvsadm --edit-server --tcp-service $SERVICE --real-server "$server:80" --gatewaying --weight $weight
    done
    sleep 0.5
done
