"""Names that several tables share: splits, tracks, the last layer."""

SPLITS = ("train", "val", "test")


SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


TRACKS = ("head", "finetune")


LAST_LAYER = "last"  # the input of the network's own classifier, pooled as the network does
