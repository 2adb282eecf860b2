"""Predict: a bundle and new images to predictions, as a command, a Python library and a server."""
