"""The stages: one folder for each stage of dvc.yaml, and `datasets`, which makes the built-in data sets."""
