"""What a user writes first: a module with Q in R^{d x d}, tokens in R^d, autograd, one seed after another."""

import torch
from torch import nn

from vitdyn.data import PatchBatch, orthonormal_basis


class Layer(nn.Module):
    """F_p = Σ_q softmax_q(t_pᵀ Q t_q) x_q with t_p = x_p + e_p, for one seed."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.zeros(dimension, dimension))

    def forward(self, content: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        tokens = content + positions
        return torch.softmax(tokens @ self.matrix @ tokens.transpose(1, 2), dim=-1) @ content


class NaiveReconstruction:
    """The MAE gradient of every seed of a batch whose patches lie ready in memory."""

    def __init__(self, batch: PatchBatch, visible: torch.Tensor) -> None:
        basis = orthonormal_basis(batch.layout, dtype=torch.float32)
        self.positions, self.visible = basis.positions, visible
        self.patches = batch.patches(basis)
        self.layers = [Layer(basis.dimension) for _ in batch.seeds]

    def gradients(self) -> list[torch.Tensor]:
        found = []
        for layer, patches, visible in zip(self.layers, self.patches, self.visible, strict=True):
            output = layer(patches * visible[..., None], self.positions)
            loss = 0.5 * ((output - patches).square().sum(-1) * ~visible).sum() / len(patches)
            found.append(torch.autograd.grad(loss, layer.matrix)[0])
        return found
