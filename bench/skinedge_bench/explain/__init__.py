"""`skinedge explain`: saliency maps of a model's predictions."""
