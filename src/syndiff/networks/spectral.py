"""Spectral normalisation: bounds the Lipschitz constant of a discriminator's layers.

Miyato et al., Spectral Normalization for Generative Adversarial Networks, ICLR 2018. The paper
names it as the remedy where adversarial training is unstable (Sec. VI).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


def normalise_spectrally(network: nn.Module) -> None:
    """Divide the weight of every convolution and dense layer by its largest singular value.

    The weight counts as a matrix (outputs × all else). Each forward pass in training mode makes
    one step of power iteration. Its vectors are buffers, so that a checkpoint holds them.

    The weights themselves are first scaled to the norm 1. Otherwise a layer whose weights start
    near zero would receive gradients that are larger by the inverse of its norm.
    """
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear):
            with torch.no_grad():
                layer.weight /= torch.linalg.matrix_norm(layer.weight.flatten(1), ord=2)
            spectral_norm(layer)
