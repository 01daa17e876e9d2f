"""Time passes, jobs come, nodes are taken away: a world that calls the very `decide` that the operator calls."""
