"""The life of a gang: its phases, every reason to requeue it, its retries and back-off. Pure."""
