"""Run every command on mutated inputs and count the findings (`make fuzz`)."""
