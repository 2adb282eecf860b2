"""Measurements against rivals, each in one run with its rival. Results and commands: docs/explanation/benchmarks.md."""
