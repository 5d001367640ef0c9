"""`skinedge verify --layers`: two model files compared layer by layer."""
