"""Stage `split`: a label and a split for every image."""
