"""The engine: a process of its own that drives the VRRP core on real sockets and real time."""
