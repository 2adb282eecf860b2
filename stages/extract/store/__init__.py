"""The private store of embeddings: no image is embedded twice. `python -m stages.extract.store` looks after it."""
