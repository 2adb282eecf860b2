"""Stage `projection`: the projection of the embeddings to two dimensions."""
