"""Losses, encoder and one step of each method, against literal transcriptions. Exact."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from vitdyn.vits.functional_vit import run_vit
from vitdyn.vits.pretraining_loop import draw_batch, first_learner, train
from vitdyn.vits.pretraining_losses import contrast_loss, reconstruction_loss
from vitdyn.vits.small_vit import SmallViT, build, encode_masked, patches_of, position_codes


def made(spec):
    """A learner in float64 and its batch of step 2."""
    images = spec.images.load()
    images = replace(images, train=images.train.double(), test=images.test.double())
    return first_learner(spec).double(), draw_batch(spec, images, 2)


def gradients(learner, loss):
    learner.zero_grad()
    loss.backward()
    return {name: None if p.grad is None else p.grad.clone() for name, p in learner.named_parameters()}


@pytest.mark.parametrize("normalised", [False, True])
def test_reconstruction_loss_is_the_mean_over_hidden_patches(rng, normalised):
    predicted, target = (torch.from_numpy(rng.standard_normal((3, 5, 4))) for _ in range(2))
    hidden = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 1, 1, 0], [0, 1, 0, 0, 1]]).double()
    total, count = 0.0, 0
    for b in range(3):
        for p in range(5):
            if hidden[b, p]:
                pixels = target[b, p].tolist()
                if normalised:
                    mean = sum(pixels) / 4
                    variance = sum((x - mean) ** 2 for x in pixels) / 3
                    pixels = [(x - mean) / math.sqrt(variance + 1e-6) for x in pixels]
                total += sum((float(predicted[b, p, i]) - pixels[i]) ** 2 for i in range(4)) / 4
                count += 1
    found = reconstruction_loss(predicted, target, hidden, normalised=normalised)
    assert float(found) == pytest.approx(total / count, rel=1e-12)


def tokens(learner, images, encoder=None):
    return run_vit((encoder or learner.encoder).weights, learner.shape, images).final


@pytest.mark.parametrize("normalised", [False, True])
def test_reconstruction_is_what_the_transformers_package_computes(tiny, normalised, reference):
    """The loss and its gradients, in double precision throughout."""
    spec = tiny(normalised_targets=normalised)
    learner, batch = made(spec)
    whole = reference(spec, learner, norm_pix_loss=normalised, mask_ratio=spec.method.mask)
    ours, theirs = spec.method.loss(learner, batch), whole(batch.plain, noise=batch.noise(16)).loss
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-12)
    assert torch.equal(patches_of(batch.plain, 2), whole.patchify(batch.plain))
    ours.backward()
    theirs.backward()
    found = [
        learner.encoder.weights["blocks.0.query.weight"],
        learner.heads["decoder"].weights["pixels.weight"],
    ]
    wanted = [whole.vit.layers[0].attention.q_proj.weight, whole.decoder.decoder_pred.weight]
    for mine, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-10, atol=1e-14)


def test_maps_and_tokens_are_those_of_the_transformers_package(tiny, reference):
    spec = tiny()
    learner, batch = made(spec)
    found = run_vit(learner.encoder.weights, learner.shape, batch.plain)
    noise = torch.arange(16.0).expand(8, -1)  # leaves the patches in their order
    with torch.no_grad():
        wanted = reference(spec, learner, mask_ratio=0.0).vit(
            batch.plain, noise=noise, output_attentions=True, output_hidden_states=True
        )
    for mine, theirs in zip(found.attention, wanted.attentions, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    for mine, theirs in zip(found.residual, wanted.hidden_states, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.final, wanted.last_hidden_state, rtol=0, atol=1e-12)


def test_half_of_the_patches_are_masked_those_of_largest_noise(tiny):
    learner, batch = made(tiny(mask=0.5))
    noise = batch.noise(16)
    found = encode_masked(learner.encoder.weights, learner.shape, batch.plain, noise=noise, mask=0.5)
    assert found.tokens.shape == (8, 9, 16)
    for row in range(8):
        assert set(found.masked[row].nonzero()[:, 0].tolist()) == set(noise[row].argsort()[8:].tolist())


def test_contrast_loss_is_cross_entropy_times_twice_the_temperature(rng):
    q, k = (torch.from_numpy(rng.standard_normal((4, 3))) for _ in range(2))
    total = 0.0
    for i in range(4):
        scores = [float(q[i] @ k[j] / q[i].norm() / k[j].norm()) / 0.3 for j in range(4)]
        total -= scores[i] - math.log(sum(math.exp(s) for s in scores))
    assert float(contrast_loss(q, k, 0.3)) == pytest.approx(2 * 0.3 * total / 4, rel=1e-12)


def test_keys_take_no_gradient(rng):
    q, k = (torch.from_numpy(rng.standard_normal((4, 3))).requires_grad_() for _ in range(2))
    contrast_loss(q, k, 0.3).backward()
    assert k.grad is None and float(q.grad.abs().max()) > 0


def literal_contrast(spec, learner, batch, *, average_first):
    """Both directions written out; the moving average moves before the keys are taken, or after."""
    method, start = spec.method, deepcopy(learner)
    encoder, projector = start.teacher["encoder"], start.teacher["projector"]
    student_projector, predictor = start.heads["projector"], start.heads["predictor"]
    keep = 1 - (1 - method.momentum) * (1 + math.cos(math.pi * batch.step / spec.steps)) / 2
    if average_first:
        for average, now in ((encoder, start.encoder), (projector, student_projector)):
            for old, new in zip(average.parameters(), now.parameters(), strict=True):
                old.data = keep * old.data + (1 - keep) * new.data
    total = 0.0
    pair = [batch.view(0), batch.view(1)]
    for query, key in ((0, 1), (1, 0)):
        q = predictor(student_projector(tokens(start, pair[query])[:, 1:].mean(1)))
        k = projector(tokens(start, pair[key], encoder)[:, 1:].mean(1))
        q, k = q / q.norm(dim=1, keepdim=True), k / k.norm(dim=1, keepdim=True)
        scores = q @ k.T / method.temperature
        total += 2 * method.temperature * float((scores.logsumexp(1) - scores.diagonal()).mean().detach())
    return total


def test_contrast_moves_the_average_before_it_takes_the_keys(tiny):
    spec = tiny("contrast", momentum=0.5)
    learner, batch = made(spec)
    with torch.no_grad():  # the average has to lag behind for the order to matter
        for parameter in learner.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    first, after = (literal_contrast(spec, learner, batch, average_first=each) for each in (True, False))
    found = float(spec.method.loss(learner, batch).detach())
    assert found == pytest.approx(first, rel=1e-10)
    assert abs(found - after) > 1e-3


@pytest.mark.parametrize(("weight", "pure"), [(0.0, "reconstruction"), (1.0, "contrast")])
def test_a_mixture_at_its_ends_has_the_gradients_of_the_pure_losses(tiny, weight, pure):
    spec = tiny("mixture", weight=weight)
    (mixed, batch), (alone, _) = made(spec), made(spec)
    found = gradients(mixed, spec.method.loss(mixed, batch))
    expected = gradients(alone, getattr(spec.method, pure).loss(alone, batch))
    shared = [name for name in found if expected[name] is not None]
    assert any(float(expected[name].abs().max()) > 1e-6 for name in shared)
    for name in found:
        truth = expected[name] if expected[name] is not None else torch.zeros((), dtype=torch.float64)
        if found[name] is not None:
            torch.testing.assert_close(found[name], truth.expand_as(found[name]), rtol=1e-10, atol=1e-12)


def test_the_mixture_is_the_weighted_sum(tiny):
    spec = tiny("mixture", weight=0.2)
    mixed, batch = made(spec)
    each = (spec.method.reconstruction, spec.method.contrast)
    parts = [float(part.loss(made(spec)[0], batch).detach()) for part in each]
    assert float(spec.method.loss(mixed, batch).detach()) == pytest.approx(
        0.8 * parts[0] + 0.2 * parts[1], rel=1e-12
    )


def test_supervision_is_cross_entropy_of_one_view(tiny):
    spec = tiny("supervised")
    learner, batch = made(spec)
    scores = learner.heads["classifier"](tokens(learner, batch.view(0))[:, 1:].mean(1))
    expected = (scores.logsumexp(1) - scores.gather(1, batch.labels[:, None])[:, 0]).mean()
    assert float(spec.method.loss(learner, batch).detach()) == pytest.approx(
        float(expected.detach()), rel=1e-12
    )


def test_the_class_token_can_be_read_instead(tiny):
    learner, batch = made(tiny("supervised", readout="class"))
    assert torch.equal(learner.read(batch.plain), tokens(learner, batch.plain)[:, 0])


@pytest.mark.parametrize("method", ["contrast", "mixture"])
def test_the_patch_projection_stays_frozen_where_there_is_contrast(tiny, method):
    trained = train(tiny(method)).learner.encoder.state_dict()
    start = first_learner(tiny(method)).encoder.state_dict()
    moved = {name for name in start if not torch.equal(start[name], trained[name])}
    assert not any("patch" in name or "position" in name for name in moved)
    assert any("query" in name for name in moved)


def test_all_methods_start_from_the_same_encoder_and_seeds_differ(tiny):
    first = first_learner(tiny()).encoder.state_dict()
    for method in ("contrast", "mixture", "supervised", "untrained"):
        other = first_learner(tiny(method)).encoder.state_dict()
        assert all(torch.equal(first[name], other[name]) for name in first)
    assert not torch.equal(first["class_token"], first_learner(tiny(seed=4)).encoder.weights["class_token"])


def test_positions_are_told_apart_by_encoder_and_decoder():
    for part in build(SmallViT(), 8, 0):
        codes = part.weights["positions"]
        apart = torch.cdist(codes[0, 1:], codes[0, 1:]) + 10 * torch.eye(16)
        assert float(apart.min()) > 0.3 and not codes.requires_grad
    found = position_codes(3, 8)
    x, y, slow = 2, 1, 6**-0.5
    expected = [math.sin(x), math.sin(x * slow), math.cos(x), math.cos(x * slow),
                math.sin(y), math.sin(y * slow), math.cos(y), math.cos(y * slow)]  # fmt: skip
    assert found[0, 1 + 3 * y + x].tolist() == pytest.approx(expected, rel=1e-6)
    assert float(found[0, 0].abs().max()) == 0


def test_building_leaves_the_global_generator_alone(tiny):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first_learner(tiny("mixture"))
    assert torch.equal(before, torch.get_rng_state())
