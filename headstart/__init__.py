"""Headstart: image classification by transfer learning. The library; nothing in it knows dvc.yaml."""
