"""Engines: ways to run one network. Which of them runs never changes a result beyond the precision's tolerance."""
