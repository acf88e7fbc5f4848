"""The client of the Kubernetes API server: the operator's and the agents' alone."""
