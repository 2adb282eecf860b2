"""Stage `head`: a linear classifier on cached embeddings."""
