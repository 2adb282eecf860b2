"""The built-in data sets: one module each. It makes or fetches a folder below data/ and is run by a make target."""
