"""From VirtualIPs in files to what one host runs; what both halves know of VRIDs, links and rules. Pure."""
