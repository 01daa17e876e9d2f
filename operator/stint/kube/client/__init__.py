"""Speaking to the API server: requests, caches that follow it, the leader lease, events."""
