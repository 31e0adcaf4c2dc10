"""The contenders in JAX: reduced parameters Φ and Υ, ``lax.map`` over seeds, one jitted ``value_and_grad``.

XLA reads its threads when it starts: these flags ask for one, and a process bound to one core gets no more.
"""

import os
from functools import lru_cache, partial

os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count=1"
)
os.environ.setdefault("NPROC", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import torch
from contenders import Contender
from problems import Case, Problem

from vitdyn.models import Correlations

CACHED = 2**18
"""Numbers of one array (sample, query, key) that stay in the cache between operations: measured, 1 MiB."""


def dense_attention(case: Case, parameters, cluster, latents, *views):
    """Area attention (sample, query, area) of each view by a softmax over keys, a few samples at a time.

    The samples that fit the cache are one batch; more are mapped, batch by batch, and computed again on the way
    back (``jax.checkpoint``): on a CPU twice the arithmetic beats one trip to memory.
    """
    phi, upsilon = parameters
    area = jnp.asarray(case.layout.area_of_patch)
    member = jax.nn.one_hot(area, case.areas)
    by_key = jnp.stack([phi[:, k][:, area[k]] for k in range(case.clusters)])

    def attend(sample):
        k, strengths, visible = sample
        k = 0 if case.clusters == 1 else k
        logits = upsilon + (strengths[area[k]] * visible) * by_key[k]
        raised = jnp.exp(logits - jax.lax.stop_gradient(logits.max(-1, keepdims=True)))
        owners = jnp.concatenate([visible[:, None] * member[k], 1 - visible[:, None]], 1)
        masses = raised @ owners
        return masses[:, :-1] / masses.sum(-1, keepdims=True)

    together = max(1, CACHED // case.patches**2)
    if together >= case.samples:
        return [jax.vmap(attend)((cluster, latents, visible)) for visible in views]
    several = partial(jax.lax.map, jax.checkpoint(attend), batch_size=together)
    return [several((cluster, latents, visible)) for visible in views]


def factored_attention(case: Case, parameters, cluster, latents, *views):
    """The same through sums by area, as ``vitdyn.kernels`` does: exp(Υ) once, one product an area."""
    phi, upsilon = parameters
    stops = np.cumsum(case.layout.sizes[0])
    table = jnp.exp(upsilon - jax.lax.stop_gradient(upsilon.max(-1, keepdims=True)))
    exponent = latents[:, :, None] * phi[:, 0].T
    shift = jax.lax.stop_gradient(jnp.maximum(0, exponent.max(1, keepdims=True)))
    found = []
    for visible in views:
        parts = zip([0, *stops[:-1]], stops, strict=True)
        masses = jnp.stack([visible[:, a:b] @ table[:, a:b].T for a, b in parts], 1)
        raised = masses * jnp.exp(exponent - shift)
        total = raised.sum(1) + ((1 - visible) @ table.T) * jnp.exp(-shift[:, 0])
        found.append(jnp.swapaxes(raised / total[:, None], 1, 2))
    return found


def reconstruction(case: Case, attend, parameters, cluster, latents, visible):
    member = jax.nn.one_hot(jnp.asarray(case.layout.area_of_patch), case.areas)
    (attention,) = attend(case, parameters, cluster, latents, visible)
    member = member[0] if case.clusters == 1 else member[cluster]
    error = jnp.square((attention - member) * latents[:, None]).sum(-1)
    return 0.5 * (error * (1 - visible)).sum() / case.samples


def contrast(case: Case, attend, parameters, cluster, latents, *views):
    own = jax.nn.one_hot(cluster, case.clusters)[..., None]
    pooled = [
        (own * (latents * attention.mean(1))[:, None]).reshape(case.samples, -1)
        for view, kept in zip(views, (parameters, jax.lax.stop_gradient(parameters)), strict=True)
        for attention in attend(case, kept, cluster, latents, view)
    ]
    return -jnp.diagonal(jax.nn.log_softmax(pooled[0] @ pooled[1].T, -1)).mean()


@lru_cache
def compiled(case: Case, attend):
    """Return the step of a case, compiled ahead for its shapes."""
    loss = partial({"mae": reconstruction, "cl": contrast}[case.objective], case, attend)

    def step(parameters, *data):
        return jax.lax.map(lambda seed: jax.value_and_grad(loss)(*seed), (parameters, *data))

    seeds, samples, patches, areas = case.seeds, case.samples, case.patches, case.areas
    numbers = lambda *shape: jax.ShapeDtypeStruct((seeds, *shape), jnp.float32)  # noqa: E731
    parameters = numbers(patches, case.clusters, areas), numbers(patches, patches)
    cluster = jax.ShapeDtypeStruct((seeds, samples), jnp.int32)
    views = [numbers(samples, patches)] * (1 if case.objective == "mae" else 2)
    return jax.jit(step).lower(parameters, cluster, numbers(samples, areas), *views).compile()


class Dense(Contender):
    """What a JAX user writes: full softmax, in the fewest parameters."""

    words = "JAX"
    attend = staticmethod(dense_attention)

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        batch = problem.batch
        self.function = compiled(problem.case, self.attend)
        self.parameters = tuple(jnp.asarray(x.numpy()) for x in problem.correlations.named().values())
        self.data = [jnp.asarray(batch.cluster.numpy(), jnp.int32), jnp.asarray(batch.latents.numpy())]
        self.data += [jnp.asarray(view.numpy(), jnp.float32) for view in problem.views]

    def step(self):
        return jax.block_until_ready(self.function(self.parameters, *self.data))[1]

    def correlations(self, found) -> Correlations:
        return Correlations(*(torch.from_numpy(np.array(block)) for block in found))

    @classmethod
    def warm(cls, case: Case) -> None:
        super().warm(case)
        compiled(case, cls.attend)


class Factored(Dense):
    """What is left for a JAX user to win by this package's algebra, without its kernels."""

    words = "JAX, our factorisation"
    attend = staticmethod(factored_attention)

    @staticmethod
    def takes(case: Case) -> bool:
        return case.clusters == 1 and case.areas <= 8
