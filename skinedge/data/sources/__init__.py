"""Training on several folders of images, each with its layout and a map of its classes."""
