"""Roofline bounds: lower bounds of the latency from the hardware's peak rates."""
