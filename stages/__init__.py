"""Headstart's rooms: one folder per DVC stage, and `core`, which holds what several rooms share."""
