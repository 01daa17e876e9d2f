"""What a kind cluster of ours is made of."""
