"""What nodes to buy or give back."""
