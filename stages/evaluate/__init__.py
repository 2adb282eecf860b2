"""Stage `evaluate`: the scores of one track, from its predictions alone."""
