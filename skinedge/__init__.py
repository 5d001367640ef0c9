"""skinedge: labelled skin images in, a verified classifier for phones and Raspberry Pis out."""

__version__ = "0.1.0"
