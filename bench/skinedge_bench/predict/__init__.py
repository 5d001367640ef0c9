"""`skinedge predict`, and results that an interrupted command resumes."""
