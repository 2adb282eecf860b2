"""Commands: the command lines of `headstart predict`, `headstart export` and `headstart serve`."""
