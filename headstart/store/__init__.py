"""Store: the embeddings of every image, kept so that no image is embedded twice."""
