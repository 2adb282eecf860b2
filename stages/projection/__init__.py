"""Stage `projection`: the embeddings in two dimensions, for a map."""
