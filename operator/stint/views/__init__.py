"""What people are told: status, conditions and events, as pure functions of what was seen and decided."""
