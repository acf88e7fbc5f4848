"""The operator: turns VirtualIP resources into what each node runs."""
