"""What a step costs, and what in it."""
