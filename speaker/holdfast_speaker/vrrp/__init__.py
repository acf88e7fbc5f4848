"""The VRRP core: pure. Bytes and the time come in, values go out; no clock, socket, log or randomness."""
