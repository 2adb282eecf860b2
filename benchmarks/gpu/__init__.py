"""Checks and measures of everything that runs on a GPU: `make bench-gpu`, or `make test-gpu` for the checks alone."""
