"""Kill every command that writes files, or fail its filesystem calls, and check what it leaves (`make faults`)."""
