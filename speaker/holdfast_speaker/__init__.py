"""The speaker: the VRRP engine of one node, and what feeds it."""
