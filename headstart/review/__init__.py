"""The local page in which people correct labels."""
