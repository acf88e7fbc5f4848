# kube-proxy, and of the node's root file system only what it starts: nft, iptables with its matches (some of which need
# libraries that the program itself does not), ipset and conntrack.
ARG BASE
FROM ${BASE} AS base
RUN programs="$(readlink -f /usr/sbin/nft /usr/sbin/iptables /usr/sbin/conntrack /usr/sbin/ipset)" && \
    libraries="$(ldd $programs /usr/lib/*/xtables/*.so | sed -n 's/^[^:]*[[:space:]]\(\/[^ ]*\) (0x.*/\1/p' | sort -u)" && \
    mkdir /part && \
    cp -rL --parents $programs $libraries /usr/lib/*/xtables /part && \
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do \
        ln -s "$(readlink -f /usr/sbin/iptables)" "/part/usr/sbin/$name"; \
    done && \
    chroot /part /usr/sbin/nft --version && \
    chroot /part /usr/sbin/iptables -m statistic --help >/dev/null

FROM scratch
COPY --from=base /part /
COPY kube-proxy /usr/local/bin/
ENV PATH=/usr/local/bin:/usr/sbin
