"""Built-in data sets: one module each, which makes or fetches a folder below data/."""
