"""The agent: what ties one node's engine to the cluster. It is never in the data path: without it VRRP goes on."""
