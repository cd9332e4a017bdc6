"""Pretrained models: data only, read by `audiossl.hub`."""
