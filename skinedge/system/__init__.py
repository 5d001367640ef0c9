"""The machine: processor, processes, locks, signals, temporary folders, progress."""
