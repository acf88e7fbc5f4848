"""Health of the services behind a VIP: probes, and the hysteresis between them and the election."""
