"""Kill every command that writes, and make its filesystem calls fail; see what is left (`make faults`)."""
