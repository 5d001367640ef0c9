"""`skinedge bench`: latency, memory and accuracy on one device."""
