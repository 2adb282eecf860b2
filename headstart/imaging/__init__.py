"""Imaging: from bytes to verified pixels."""
