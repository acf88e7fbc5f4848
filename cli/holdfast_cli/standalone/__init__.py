"""`holdfast run`: planner, probes and file watching around one engine process, without a cluster."""
