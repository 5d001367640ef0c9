"""`make fuzz`: mutated inputs of every kind, and what came of them."""
