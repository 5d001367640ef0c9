"""The notice that accompanies every output about an image."""

NOTICE = "Research tool, not a medical device: no output of it is a diagnosis."
