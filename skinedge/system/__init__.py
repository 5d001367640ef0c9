"""Operating system services: processor, processes, locks, signals, temporary folders, progress."""
