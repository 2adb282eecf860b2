"""Stage `evaluate`: the reported numbers of one track, from its predictions alone."""
