"""Who waits in what order, what each would cost where, and who gets what."""
