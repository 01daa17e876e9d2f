"""The `stint` command."""
