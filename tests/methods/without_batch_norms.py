"""For tests that compare several processes with one: a network in which no clip sees another."""

import torch
from torch import nn


def without_batch_norms(module):
    """On a CPU a batch norm sees its own rank's clips, so that two ranks are not one process: layer norms instead."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d):
            norm = nn.LayerNorm(child.num_features, elementwise_affine=child.affine)
            needed = next(iter(child.parameters()), torch.empty(0)).requires_grad  # a teacher's needs none
            setattr(module, name, norm.requires_grad_(needed))
        else:
            without_batch_norms(child)
    return module
