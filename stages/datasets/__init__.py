"""The built-in data sets: one module each, which a make target runs to make or fetch a folder below data/."""
