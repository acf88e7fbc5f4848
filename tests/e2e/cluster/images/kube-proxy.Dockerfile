# kube-proxy, and of the node's root file system only what it starts: nft, iptables and conntrack.
ARG BASE
FROM ${BASE} AS base
RUN programs="$(readlink -f /usr/sbin/nft /usr/sbin/iptables /usr/sbin/conntrack)" && \
    libraries="$(ldd $programs | sed -n 's/^[^:]*[[:space:]]\(\/[^ ]*\) (0x.*/\1/p' | sort -u)" && \
    mkdir /part && \
    cp -rL --parents $programs $libraries /usr/lib/*/xtables /part && \
    for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do \
        ln -s "$(readlink -f /usr/sbin/iptables)" "/part/usr/sbin/$name"; \
    done && \
    chroot /part /usr/sbin/nft --version && chroot /part /usr/sbin/iptables --version

FROM scratch
COPY --from=base /part /
COPY kube-proxy /usr/local/bin/
ENV PATH=/usr/local/bin:/usr/sbin
