"""Roofline bounds: the time that the hardware needs at least."""
