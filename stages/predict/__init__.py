"""Predict: a command and a Python library, no stage: a bundle and new images to predictions."""
