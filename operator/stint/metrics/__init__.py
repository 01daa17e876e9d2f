"""What Prometheus scrapes from us, and the probes."""
