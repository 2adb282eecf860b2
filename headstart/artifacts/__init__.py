"""Artifacts: tensors on disk. Features (HDF5), bundles, references."""
