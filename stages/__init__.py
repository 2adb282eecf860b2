"""Headstart's stages: one folder per DVC stage, and `core`, which holds what several stages share."""
