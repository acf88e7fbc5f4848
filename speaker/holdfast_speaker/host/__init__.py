"""Bytes to the kernel and from it: netlink, raw sockets, frames."""
