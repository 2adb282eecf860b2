"""Revisions: the predictions of two or more git revisions, paired, and whether one is really better."""
