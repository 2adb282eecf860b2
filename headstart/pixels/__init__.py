"""Pixels that are kept on disk, so that no photo is decoded twice."""
