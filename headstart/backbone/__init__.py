"""Backbone: the frozen, pretrained network."""
