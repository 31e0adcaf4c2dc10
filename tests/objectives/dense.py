"""The independent twin of training: a d × d matrix Q, vectors of R^d, the full softmax, literal losses, autograd.

It shares with the package the batches, the masks and what is drawn for the objective's first state.
"""

from functools import cache

import torch
from literal import Seen, features_of

from vitdyn.data import orthonormal_basis
from vitdyn.dynamics.batches import BatchSource
from vitdyn.models import Correlations
from vitdyn.models.reference import dense_attention
from vitdyn.objectives.contract import first_state


class Twin:
    """One seed of a run by plain gradient descent: ``matrix`` Q, ``teacher`` another such, ``state`` plain tensors."""

    def __init__(self, training, case, seed):
        self.training, self.case, self.seed = training, case, seed
        layout, self.objective = training.generator.layout, training.objective
        self.basis = orthonormal_basis(layout, seed=11)
        self.features = self.basis.features.flatten(0, 1)
        self.matrix = torch.zeros(self.basis.dimension, self.basis.dimension, dtype=torch.float64)
        self.teacher = self.matrix.clone()
        drawn = first_state(self.objective, Correlations.zeros(layout, 1), (seed,))
        self.state = {name: value[0] for name, value in drawn.items() if not name.startswith("teacher")}

    def train(self):
        """Take all steps of the run."""
        place = torch.float64, torch.device("cpu")
        samples = self.training.batch_size
        source = BatchSource(self.training.generator, self.objective, (self.seed,), samples, None, *place)
        for step in range(self.training.steps):
            self.step(step, *source.training(step, None))
        return self

    def step(self, count, batch, views):
        """One step: Q and what is trained beside it go down the gradient, then what is carried moves."""
        optimizers = self.objective.optimizers()
        rates = {name: optimizer.learning_rate for name, optimizer in optimizers.items()}
        model = self.matrix.clone().requires_grad_()
        trained = {name: self.state[name].clone().requires_grad_() for name in rates}
        seen = self.seen(model, self.state | trained, batch, views)
        loss = self.case.loss(seen) + 0.5 * self.objective.weight_decay * model.square().sum()
        slope, *slopes = torch.autograd.grad(loss, [model, *trained.values()])
        with torch.no_grad():
            carried = self.case.update(self.seen(self.matrix, self.state, batch, views))
            self.matrix = self.matrix - self.training.resolved_optimizer.learning_rate * slope
            for name, part in zip(trained, slopes, strict=True):
                carried |= {name: self.state[name] - rates[name] * part}
            self.state = self.state | carried
            if self.case.momentum is not None:
                keep = self.case.momentum(count)
                self.teacher = keep * self.teacher + (1 - keep) * self.matrix

    def seen(self, model, state, batch, views):
        """What a literal loss sees: vectors F_p of R^d, read off along the features of all clusters."""
        patches = batch.patches(self.basis)

        @cache
        def outputs(view, teacher=False):
            shown = torch.ones_like(views[0]) if view is None else views[view]
            matrix = self.teacher if teacher else model
            attention = dense_attention(matrix[None], patches, shown, self.basis, content_queries=False)
            vectors = attention @ (patches * shown[..., None])
            return (vectors @ self.features.T)[0]

        clusters = batch.cluster[0][:, None] * batch.layout.areas
        area = torch.tensor(batch.layout.partition)[batch.cluster[0]] + clusters
        content, shown = (patches @ self.features.T)[0], tuple(view[0] for view in views)
        return Seen(outputs, content, area, shown, state, features_of(batch.layout))

    def correlations(self, matrix):
        """Φ_{p→v} = e_pᵀ Q v and Υ_{p→q} = e_pᵀ Q e_q."""
        positions, layout = self.basis.positions, self.training.generator.layout
        phi = (positions @ matrix @ self.features.T).unflatten(1, (layout.clusters, layout.areas))
        return {"feature_position": phi, "position_position": positions @ matrix @ positions.T}
