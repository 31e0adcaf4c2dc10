"""Images and augmentations: what is drawn, from which seeds, and what is never shared. Exact."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn.vits import Augmentation, Digits, Photographs, image_sets
from vitdyn.vits.augmentation import generator, minibatch
from vitdyn.vits.image_sets import grey_picture

FEW = Photographs(train=40, test=30, pictures=("coins", "grass", "rocket"), seed=2)


def test_digits_are_split_and_none_is_lost():
    from sklearn.datasets import load_digits

    images = Digits().load()
    assert images.train.shape == (1297, 1, 8, 8) and images.test.shape == (500, 1, 8, 8)
    every = torch.cat([images.train, images.test]).flatten(1)
    labelled = torch.cat([every, torch.cat([images.train_labels, images.test_labels])[:, None]], 1)
    truth = load_digits()
    expected = np.concatenate([truth.data / 16, truth.target[:, None]], 1)
    assert sorted(map(tuple, labelled.tolist())) == sorted(map(tuple, expected.tolist()))


def test_crops_for_training_and_testing_share_no_pixel():
    for index, name in enumerate(FEW.pictures):
        picture = grey_picture(name)
        painted = []
        for places, count in zip(FEW.corners(index, picture), (40, 30), strict=True):
            assert len(places) == count and (places >= 0).all()
            assert (places + FEW.side <= picture.shape).all()
            mask = np.zeros(picture.shape, bool)
            for top, left in places:
                mask[top : top + FEW.side, left : left + FEW.side] = True
            painted.append(mask)
        assert not (painted[0] & painted[1]).any()


def test_crops_come_from_the_photograph_that_labels_them():
    images = FEW.load()
    assert images.train.shape == (120, 1, 32, 32) and images.test.shape == (90, 1, 32, 32)
    assert images.train_labels.bincount().tolist() == [40, 40, 40]
    for number in (0, 50, 119):
        label = int(images.train_labels[number])
        top, left = FEW.corners(label, grey_picture(FEW.pictures[label]))[0][number % 40]
        crop = grey_picture(FEW.pictures[label])[top : top + 32, left : left + 32]
        np.testing.assert_array_equal(images.train[number, 0].numpy(), crop.astype(np.float32))
    assert float(torch.cat([images.train, images.test]).std((1, 2, 3)).min()) >= 0.02


@pytest.mark.parametrize("spec", [FEW, Digits(seed=2)], ids=["photographs", "digits"])
def test_what_is_drawn_depends_on_the_seed_alone(spec):
    torch.manual_seed(7)
    first = spec.load()
    image_sets._digits.cache_clear()
    image_sets._crops.cache_clear()
    torch.manual_seed(8)
    again = spec.load()
    assert torch.equal(again.train, first.train) and torch.equal(again.test, first.test)
    assert not torch.equal(again.train, replace(spec, seed=1).load().train)
    assert float(again.train.min()) >= 0 and float(again.train.max()) <= 1


def test_standardised_pixels_have_mean_0_and_deviation_1():
    images = Digits().load()
    seen = images.standardised(images.train)
    assert abs(float(seen.mean())) < 1e-5 and abs(float(seen.std()) - 1) < 1e-5


@pytest.mark.parametrize("mirror", [False, True])
def test_views_keep_the_range_and_depend_on_the_generator_alone(mirror):
    strong = Augmentation(shift=0.4, scale=0.5, turn=1.0, contrast=0.8, noise=0.4, mirror=mirror)
    images = Digits().load().train[:32]
    torch.manual_seed(0)
    first = strong(images, generator(1, "user", 5))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert torch.equal(first, strong(images, generator(1, "user", 5)))
    assert torch.equal(before, torch.get_rng_state())
    assert float(first.min()) >= 0 and float(first.max()) <= 1 and first.shape == images.shape
    for other in (generator(2, "user", 5), generator(1, "user", 6), generator(1, "masks", 5)):
        assert not torch.equal(first, strong(images, other))


def test_an_augmentation_of_no_strength_is_the_identity():
    still = Augmentation(shift=0, scale=0, turn=0, contrast=0, noise=0)
    images = FEW.load().train[:8]
    torch.testing.assert_close(still(images, generator(0, "user", 0)), images, rtol=0, atol=1e-5)


def test_about_half_of_the_images_are_mirrored():
    images = Digits().load().train[:400]
    flips = Augmentation(shift=0, scale=0, turn=0, contrast=0, noise=0, mirror=True)
    views = flips(images, generator(0, "user", 0))
    same = (views - images).abs().amax((1, 2, 3)) < 1e-5
    other = (views - images.flip(-1)).abs().amax((1, 2, 3)) < 1e-5
    assert bool((same | other).all()) and abs(int(other.sum()) - 200) < 5 * 10  # five standard errors


def test_a_shift_moves_by_a_share_of_the_side_and_repeats_the_edge():
    moved = Augmentation(scale=0, turn=0, contrast=0, noise=0, shift=0.25)
    ramp = (torch.arange(8.0) / 8).expand(64, 1, 8, 8)
    found = moved(ramp, generator(4, "user", 0))[:, 0]
    _, across, *_ = 2 * torch.rand(5, 64, generator=generator(4, "user", 0)) - 1
    expected = (torch.arange(8.0) + 8 * 0.25 * across[:, None]).clamp(0, 7) / 8
    torch.testing.assert_close(found, expected[:, None].expand(-1, 8, -1), rtol=0, atol=1e-5)


def test_a_minibatch_holds_each_image_once_and_each_step_has_its_own():
    drawn = [minibatch(0, step, 50, 60).tolist() for step in range(3)]
    assert all(len(set(each)) == 50 and max(each) < 60 for each in drawn)
    assert drawn[0] != drawn[1] and drawn[0] == minibatch(0, 0, 50, 60).tolist()


@pytest.mark.parametrize(
    ("kind", "changes", "field"),
    [
        (Digits, {"test": 0}, "test"),
        (Digits, {"test": 1790}, "test"),
        (Digits, {"seed": -1}, "seed"),
        (Photographs, {"side": 1}, "side"),
        (Photographs, {"block": 16}, "block"),
        (Photographs, {"pictures": ("coins",)}, "pictures"),
        (Photographs, {"pictures": ("coins", "nobody")}, "pictures"),
        (Augmentation, {"noise": 1.0}, "noise"),
        (Augmentation, {"turn": -0.1}, "turn"),
        (Augmentation, {"mirror": 1}, "mirror"),
    ],
)
def test_bad_specifications_are_named(kind, changes, field, complaint):
    with complaint(field):
        kind(**changes)
