"""What an encoder does by depth, on images that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn.metrics import lidar, neighbour_accuracy, ridge_probe
from vitdyn.metrics.by_depth import attention_by_depth, representations_by_depth
from vitdyn.vits.augmentation import generator
from vitdyn.vits.functional_vit import Forward, run_vit
from vitdyn.vits.image_sets import Images
from vitdyn.vits.pretraining import Pretraining
from vitdyn.vits.small_vit import PREFIX, Parameters

_CHUNK = 512  # images that go through at a time


def evaluate(spec: Pretraining, encoder: Parameters, images: Images) -> dict[str, Tensor]:
    """Return every metric of an encoder, by name.

    Of attention, (block, head): ``attention_distance`` in pixels, ``mutual_information``, ``attention_entropy`` in
    nats, ``top_key_scores``. Of the tokens before the first block and after each, (depth): ``high_frequency``,
    ``feature_map_variance``, ``token_similarity``, ``rank_me``, ``cka_to_last``; of their mean over patches,
    ``linear_accuracy`` and ``neighbour_accuracy`` (fitted on training images, read on test images) and ``lidar``, whose
    views are the augmentations of the specification. The class token is left out everywhere.
    """
    asked, grid = spec.evaluation, spec.vit.grid(spec.images.side)
    # attention and tokens of all depths at once are large: a part of the images suffices
    test = images.standardised(spread(images.test, asked.images))
    passes = list(_passed(spec, encoder, test))
    maps = [torch.cat(parts) for parts in zip(*(each.attention for each in passes), strict=True)]
    tokens = [torch.cat(parts) for parts in zip(*(each.residual for each in passes), strict=True)]
    # distances in pixels, so that patches of two sizes can be compared
    pitch, top = float(spec.vit.patch), min(asked.top, grid * grid)
    attention = attention_by_depth(maps, (grid, grid), pitch=pitch, prefix=PREFIX, top=top)
    found = {name: values.mean(1) for name, values in attention.items()}
    found |= representations_by_depth(tokens, grid, prefix=PREFIX)
    found |= probes(spec, encoder, images)
    found["lidar"] = _lidar(spec, encoder, images)
    return {name: values.cpu() for name, values in found.items()}


def _passed(spec: Pretraining, encoder: Parameters, images: Tensor) -> Iterator[Forward]:
    """Run standardised images through an encoder, part by part; nothing is masked."""
    weights, shape = encoder.weights, spec.vit.encoder(spec.images.side)
    for part in images.split(_CHUNK):
        with torch.no_grad():
            found = run_vit(weights, shape, part)
        yield found


def spread(values: Tensor, count: int) -> Tensor:
    """Return at most ``count`` rows, evenly spread over all."""
    count = min(count, len(values))
    return values[torch.arange(count, device=values.device) * len(values) // count]


def pooled(
    spec: Pretraining, encoder: Parameters, images: Float[Tensor, "image channel side side"]
) -> Float[Tensor, "depth image width"]:
    """Return the mean token of the patches at each depth."""
    passes = _passed(spec, encoder, images)
    parts = [torch.stack([each[:, PREFIX:].mean(1) for each in one.residual]) for one in passes]
    return torch.cat(parts, 1).double()


def probes(spec: Pretraining, encoder: Parameters, images: Images) -> dict[str, Float[Tensor, " depth"]]:
    """Return what labels can be read at each depth, from features in standard deviations of the training images."""
    train, test = (pooled(spec, encoder, images.standardised(each)) for each in (images.train, images.test))
    mean, deviation = train.mean(1, keepdim=True), train.std(1, keepdim=True)
    # a feature that never varies tells nothing: it stays 0 and not 0/0
    train, test = ((each - mean) / deviation.clamp_min(1e-12) for each in (train, test))
    depths = len(train)
    labels, truth = (each.expand(depths, -1) for each in (images.train_labels, images.test_labels))
    linear = ridge_probe(train, labels, test, truth, penalty=spec.evaluation.penalty).value
    near = min(spec.evaluation.neighbours, train.shape[1])
    voted = neighbour_accuracy(train, labels, test, truth, neighbours=near).value
    return {"linear_accuracy": linear, "neighbour_accuracy": voted}


def _lidar(spec: Pretraining, encoder: Parameters, images: Images) -> Float[Tensor, " depth"]:
    """Return LiDAR of mean tokens, with a δ relative to the spread of views."""
    views = torch.stack([pooled(spec, encoder, each) for each in _views(spec, images)], 2)
    return lidar(views, convention="relative").value


def _views(spec: Pretraining, images: Images) -> Iterator[Float[Tensor, "image channel side side"]]:
    objects = spread(images.test, spec.evaluation.objects)
    for index in range(spec.evaluation.views):
        # the same views for all methods of a seed: differences are paired
        draw = generator(spec.seed, "evaluation latents", index)
        yield images.standardised(spec.augmentation(objects, draw))
