"""Server: a model over HTTP, with a limit on everything that a client can ask for."""
