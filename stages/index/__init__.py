"""Stage `index`: a row for every file of the data set, with its digest, its size in pixels and its status."""
