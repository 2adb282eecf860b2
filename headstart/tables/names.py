"""Names that several tables share: splits, tracks, the last layer."""

SPLITS = ("train", "val", "test")
# Every name of a split that a folder or a table of labels may use, and the name of that split here.
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
TRACKS = ("head", "finetune")
# The layer that feeds the network's own classifier, pooled as the network pools it.
LAST_LAYER = "last"
