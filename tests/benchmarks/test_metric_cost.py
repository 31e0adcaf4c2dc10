"""What the larger metrics cost, beside their formulas as one would write them at once (``make bench``).

At the sizes of a ViT-B/16 on 224 pixels: 64 images, 12 heads, 196 patches; LiDAR of 1000 objects with 50 views of 768
dimensions. Torch keeps its threads. No time is asserted.
"""

import pytest
import torch

from vitdyn.metrics import attention_distance, grid_positions, lidar, mutual_information

IMAGES, HEADS, SIDE = 64, 12, 14


@pytest.fixture(scope="module")
def maps():
    logits = torch.randn(IMAGES, HEADS, SIDE**2, SIDE**2, generator=torch.Generator().manual_seed(0))
    return logits.softmax(-1)


@pytest.fixture(scope="module")
def embeddings():
    generator = torch.Generator().manual_seed(0)
    objects = torch.randn(1000, 1, 768, generator=generator)
    return objects + 0.5 * torch.randn(1000, 50, 768, generator=generator)


def plain_distance(maps):
    places = grid_positions(SIDE, SIDE)
    rows = maps.double() / maps.double().sum(-1, keepdim=True)
    return (rows * torch.cdist(places, places)).sum(-1).mean(-1)


def plain_information(maps):
    rows = maps.double() / maps.double().sum(-1, keepdim=True)
    keys = rows.mean(-2, keepdim=True)
    information = (rows * (rows / keys).log()).sum(-1).mean(-1)
    entropy = -(keys * keys.log()).sum((-1, -2))
    return information / (torch.tensor(float(SIDE**2)).log() * entropy).sqrt()


def plain_lidar(embeddings):
    views = embeddings.double()
    means = views.mean(1)
    inside = (views - means[:, None]).flatten(0, 1)
    within = inside.T @ inside / (len(means) * (views.shape[1] - 1))
    between = torch.cov(means.T)
    values, axes = torch.linalg.eigh(within)
    root = axes / values.sqrt() @ axes.T
    shares = torch.linalg.eigvalsh(root @ between @ root).clamp_min(0)
    return torch.special.entr(shares / shares.sum()).sum().exp()


PLAIN = {"distance": plain_distance, "information": plain_information}
OURS = {
    "distance": lambda maps: attention_distance(maps, (SIDE, SIDE)).value,
    "information": lambda maps: mutual_information(maps).value,
}


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("how", ["plain", "ours"])
def test_attention_metrics(name, how, maps, benchmark):
    benchmark.group = f"{name} of {IMAGES} x {HEADS} maps"
    found = benchmark.pedantic(
        {"plain": PLAIN, "ours": OURS}[how][name], args=(maps,), rounds=3, warmup_rounds=1
    )
    assert torch.allclose(found, PLAIN[name](maps), rtol=1e-9)


@pytest.mark.parametrize("how", ["plain", "ours"])
def test_lidar(how, embeddings, benchmark):
    benchmark.group = "LiDAR of 1000 x 50 x 768"
    measure = {"plain": plain_lidar, "ours": lambda views: lidar(views).value}[how]
    found = benchmark.pedantic(measure, args=(embeddings,), rounds=2, warmup_rounds=0)
    assert torch.allclose(found, plain_lidar(embeddings), rtol=1e-6)
