"""What was spent: booked once, from facts with times of their own."""
