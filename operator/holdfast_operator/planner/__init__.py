"""The planner: pure, from VirtualIPs and a view of the world to what each node runs."""
