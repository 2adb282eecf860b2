"""Stage `finetune`: the whole network, or its later layers, trained on the images."""
