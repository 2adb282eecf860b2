"""The chaos test: `python -m tests.chaos` does random harm to a small project; a clean clone must agree with it."""
