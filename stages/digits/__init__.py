"""Room `digits`: the embedded data set, an upstream stage that runs only when `data.path` points at it."""
