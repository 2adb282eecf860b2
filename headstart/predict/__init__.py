"""Predict: classify new images with a trained bundle, from the command line, from Python or over HTTP."""
