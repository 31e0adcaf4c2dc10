"""Losses, encoder and one step of each method, against literal transcriptions. Exact."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from vitdyn.vits import METHODS
from vitdyn.vits.functional_vit import norm, run_block, run_vit
from vitdyn.vits.pretraining_loop import draw_batch, first_learner, train
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
    learner = moved(learner)  # the average has to lag behind for the order to matter
    first, after = (literal_contrast(spec, learner, batch, average_first=each) for each in (True, False))
    found = float(spec.method.loss(learner, batch).detach())
    assert found == pytest.approx(first, rel=1e-10)
    assert abs(found - after) > 1e-3


def moved(learner):
    """A learner away from where it starts, so that its teacher lags behind."""
    with torch.no_grad():
        for parameter in learner.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.manual_seed(0)))
    return learner


def unit(rows):
    return rows / rows.norm(dim=-1, keepdim=True)


def literal_simclr(method, views, student, teacher):
    z = torch.cat([unit(student["projector"](each)) for each in views])
    total, count = 0.0, len(views[0])
    for i in range(2 * count):
        others = [float(z[i] @ z[j]) / method.temperature for j in range(2 * count) if j != i]
        own = float(z[i] @ z[(i + count) % (2 * count)]) / method.temperature
        total += math.log(sum(map(math.exp, others))) - own
    return total / (2 * count)


def literal_vicreg(method, views, student, teacher):
    z = [student["projector"](each) for each in views]
    total = method.invariance * (z[0] - z[1]).square().mean()
    for each in z:
        covariance = torch.cov(each.T)
        spread = torch.sqrt(torch.diagonal(covariance) + 1e-4)
        off = covariance - torch.diag(torch.diagonal(covariance))
        total = total + method.variance * torch.relu(1 - spread).mean() / 2
        total = total + method.covariance * off.square().sum() / len(off)
    return float(total)


def literal_byol(method, views, student, teacher):
    predicted = [unit(student["predictor"](student["projector"](each))) for each in views]
    targets = [unit(teacher["projector"](each)) for each in teacher["views"]]
    return sum(float((2 - 2 * (predicted[i] * targets[1 - i]).sum(-1)).mean()) for i in (0, 1))


def literal_dino(method, views, student, teacher):
    total = 0.0
    for i in (0, 1):
        aim = ((teacher["head"](teacher["views"][i]) - 0.3) / method.teacher_temperature).softmax(-1)
        found = (student["head"](views[1 - i]) / method.student_temperature).softmax(-1)
        total -= float((aim * found.log()).sum(-1).mean()) / 2
    return total


LITERAL = {"simclr": literal_simclr, "vicreg": literal_vicreg, "byol": literal_byol, "dino": literal_dino}


@pytest.mark.parametrize("name", LITERAL)
def test_a_loss_of_two_views_is_its_formula_on_the_mean_tokens(tiny, name):
    spec = tiny(name)
    learner, batch = made(spec)
    learner = moved(learner)
    if name == "dino":
        learner.heads["centre"].mean.fill_(0.3)
    start, teacher, pair = deepcopy(learner), {}, [batch.view(0), batch.view(1)]
    with torch.no_grad():
        if spec.method.taught is not None:
            start.move_teacher(batch.momentum(spec.method.momentum))
            teacher = dict(start.teacher.items())
            teacher["views"] = [tokens(start, each, teacher["encoder"])[:, 1:].mean(1) for each in pair]
        views = [tokens(start, each)[:, 1:].mean(1) for each in pair]
        expected = LITERAL[name](spec.method, views, dict(start.heads.items()), teacher)
    assert float(spec.method.loss(learner, batch).detach()) == pytest.approx(expected, rel=1e-10)


def test_the_centre_moves_after_the_loss_by_the_teachers_mean(tiny):
    spec = tiny("dino", centre_momentum=0.7)
    learner, batch = made(spec)
    seen = torch.cat(deepcopy(learner).targets(batch, "head")).mean(0)
    spec.method.loss(learner, batch)
    torch.testing.assert_close(learner.heads["centre"].mean, 0.3 * seen, rtol=1e-12, atol=0)


def test_data2vec_predicts_the_teachers_tokens_where_the_students_image_is_masked(tiny):
    spec = tiny("data2vec", blocks=1, beta=0.5)
    learner, batch = made(spec)
    learner = moved(learner)
    start = deepcopy(learner)
    start.move_teacher(batch.momentum(spec.method.momentum))
    masked = torch.zeros(8, 16, dtype=torch.bool).scatter(1, batch.noise(16).argsort(1)[:, 8:], True)
    last = run_vit(start.teacher["encoder"].weights, start.shape, batch.plain).residual[-1][:, 1:]
    target = (last - last.mean(-1, keepdim=True)) / torch.sqrt(
        last.var(-1, correction=0, keepdim=True) + 1e-5
    )
    # a mask token is what a patch whose projection is that token would be
    token = start.heads["token"].mask_token.detach()
    with torch.no_grad():
        inside = {**start.encoder.weights, "patch.weight": 0 * start.encoder.weights["patch.weight"]}
        blank = run_vit({**inside, "patch.bias": token[0, 0]}, start.shape, batch.plain).residual[0]
        plain = run_vit(start.encoder.weights, start.shape, batch.plain).residual[0]
    shown = torch.where(torch.cat([torch.zeros(8, 1, dtype=torch.bool), masked], 1)[..., None], blank, plain)
    for block in range(2):
        _, shown = run_block(start.encoder.weights, f"blocks.{block}", start.shape, shown)
    final = norm(start.encoder.weights, "norm", shown, start.shape.epsilon)[:, 1:]
    apart = (start.heads["predictor"](final) - target).detach().abs()
    each = torch.where(apart < 0.5, apart.square(), apart - 0.25).sum(-1)[masked]
    assert float(spec.method.loss(learner, batch).detach()) == pytest.approx(
        float(each.mean()) / 4, rel=1e-10
    )


@pytest.mark.parametrize("sees", ["same", "permuted"])
def test_rc_mae_keeps_to_a_teacher_on_the_same_mask_whose_schedule_restarts(tiny, sees):
    """At step 2 of epochs of 2 steps the momentum is the first one again; the first term alone is normalised."""
    spec = tiny(
        "rc-mae", consistency=0.7, momentum=0.6, epoch_steps=2, teacher_sees=sees, normalised_targets=True
    )
    learner, batch = made(spec)
    learner = moved(learner)
    start, images = deepcopy(learner), batch.plain
    for part, now in (("encoder", start.encoder), ("decoder", start.heads["decoder"])):
        for old, new in zip(start.teacher[part].parameters(), now.parameters(), strict=True):
            old.data = 0.6 * old.data + 0.4 * new.data

    def rebuilt(encoder, decoder, shown):
        return decoder(encode_masked(encoder.weights, start.shape, shown, noise=batch.noise(16), mask=0.5))

    with torch.no_grad():
        student = rebuilt(start.encoder, start.heads["decoder"], images)
        others = images if sees == "same" else torch.stack([images[i - 1] for i in range(len(images))])
        teacher, target = rebuilt(*start.teacher.values(), others), patches_of(images, 2)
        expected = []
        for image in range(8):
            for at in batch.noise(16)[image].argsort()[8:]:
                wanted = target[image, at]
                wanted = (wanted - wanted.mean()) / torch.sqrt(wanted.var(correction=1) + 1e-6)
                found = student[image, at]
                expected.append(
                    (found - wanted).square().mean() + 0.7 * (found - teacher[image, at]).square().mean()
                )
    assert float(spec.method.loss(learner, batch).detach()) == pytest.approx(
        float(sum(expected)) / 64, rel=1e-10
    )


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
    for method in (*METHODS, "untrained"):
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
