"""Linear classifiers on embeddings: what the head and fine-tuning share."""
