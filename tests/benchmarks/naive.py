"""What a user writes first: a module with Q in R^{d x d}, tokens in R^d, autograd."""

import torch
from torch import nn
from torch.nn import functional


class Layer(nn.Module):
    """F_p = Σ_q softmax_q(t_pᵀ Q t_q) x_q with t_p = x_p + e_p, for one seed."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(dimension, dimension))

    def forward(self, content: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        tokens = content + positions
        return torch.softmax(tokens @ self.matrix @ tokens.transpose(1, 2), dim=-1) @ content


def reconstruction_loss(layer, positions, patches, visible):
    """½ Σ_{p masked} ‖F_p − X_p‖², averaged over the samples of one seed."""
    output = layer(patches * visible[..., None], positions)
    return 0.5 * ((output - patches).square().sum(-1) * ~visible).sum() / len(patches)


def contrastive_loss(layer, positions, patches, first, second):
    """InfoNCE (τ = 1) between the mean outputs of two views, the second behind a stop-gradient."""
    anchor = layer(patches * first[..., None], positions).mean(1)
    with torch.no_grad():
        target = layer(patches * second[..., None], positions).mean(1)
    return functional.cross_entropy(anchor @ target.T, torch.arange(len(anchor)))


LOSSES = {"mae": reconstruction_loss, "cl": contrastive_loss}
