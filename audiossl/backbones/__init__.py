"""Backbones: thin adapters over timm with one output, pooled features and patches."""
