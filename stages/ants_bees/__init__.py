"""Room `ants_bees`: the tutorials' data set, an upstream stage that runs only when `data.path` points at it."""
