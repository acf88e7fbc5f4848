"""`holdfast sniff`: a second implementation of the wire, for people, that shares no code with the speaker's.

`decode` makes values of scapy's packets, `watch` finds what changed, `render` writes it, `capture` brings the packets.
"""
