"""Server: a model that answers requests over HTTP, with a bound on everything that a client may ask for."""
