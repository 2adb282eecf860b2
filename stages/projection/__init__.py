"""Stage `projection`: a map of the embeddings in two dimensions."""
