"""Layouts from label images (exact): majority, ties, what is cut off, and the order of the areas."""

import tracemalloc

import numpy as np
import pytest
import torch

from vitdyn.data import PatchLayout

LEFT_AND_RIGHT = np.repeat([[5, 5, 5, 5, 9, 9]], 4, axis=0)


def test_largest_area_becomes_the_global_one():
    layout = PatchLayout.from_labels(LEFT_AND_RIGHT, patch_size=2)
    assert layout.grid == (2, 3)
    assert layout.partition == ((0, 0, 1, 0, 0, 1),)
    assert PatchLayout.from_labels(14 - LEFT_AND_RIGHT, patch_size=2).partition == layout.partition


def test_areas_follow_by_size():
    image = np.array([[7, 2, 2, 4, 4, 4]])
    assert PatchLayout.from_labels(image, patch_size=1).partition == ((2, 1, 1, 0, 0, 0),)


def test_areas_of_equal_size_follow_by_label():
    assert PatchLayout.from_labels(np.array([[8, 3, 8, 3]]), patch_size=1).partition == ((1, 0, 1, 0),)


def test_majority_of_the_pixels_decides():
    image = np.zeros((2, 4), dtype=np.int64)
    image[:, 2:] = [[1, 1], [0, 1]]
    assert PatchLayout.from_labels(image, patch_size=2).partition == ((0, 1),)


@pytest.mark.parametrize("pixels", [[[6, 3], [3, 6]], [[3, 6], [6, 3]], [[3, 3], [6, 6]]])
def test_tie_goes_to_the_smallest_label(pixels):
    image = np.hstack([pixels, np.full((2, 4), 6)])
    assert PatchLayout.from_labels(image, patch_size=2).partition == ((1, 0, 0),)


def test_most_frequent_label_needs_no_absolute_majority():
    image = np.hstack([[[1, 2, 3], [4, 9, 9], [5, 6, 7]], np.full((3, 6), 1)])
    assert PatchLayout.from_labels(image, patch_size=3).partition == ((1, 0, 0),)


def test_pixels_that_fill_no_patch_are_left_out():
    framed = np.pad(LEFT_AND_RIGHT, ((0, 1), (0, 1)), constant_values=77)
    assert PatchLayout.from_labels(framed, patch_size=2) == PatchLayout.from_labels(
        LEFT_AND_RIGHT, patch_size=2
    )


def test_negative_labels_are_labels_like_others():
    assert PatchLayout.from_labels(-LEFT_AND_RIGHT, patch_size=2).partition == ((0, 0, 1, 0, 0, 1),)


@pytest.mark.parametrize("container", [list, tuple, np.stack])
def test_several_images_are_clusters(container):
    layout = PatchLayout.from_labels(container([LEFT_AND_RIGHT, LEFT_AND_RIGHT[:, ::-1]]), patch_size=2)
    assert layout.partition == ((0, 0, 1, 0, 0, 1), (1, 0, 0, 1, 0, 0))


def test_agrees_with_counting_pixel_by_pixel(generator):
    """The oracle: a loop over patches that counts each label."""
    image = generator.integers(-2, 3, (13, 17))
    layout = PatchLayout.from_labels(image, patch_size=3)
    blocks = [
        image[row : row + 3, column : column + 3].ravel().tolist()
        for row in range(0, 12, 3)
        for column in range(0, 15, 3)
    ]
    winners = [max(sorted(set(block)), key=block.count) for block in blocks]
    by_size = sorted(sorted(set(winners)), key=winners.count, reverse=True)
    assert layout.partition == (tuple(by_size.index(winner) for winner in winners),)


@pytest.mark.parametrize(
    ("labels", "patch_size", "field", "remedy"),
    [
        (np.full((4, 4), 3), 2, "labels", "the image has one label only"),
        (np.pad([[1]], (0, 3)), 2, "labels", "take smaller patches or a finer segmentation"),
        (np.full((4, 4), 0.5), 2, "labels", "labels that are no whole numbers"),
        (np.full((4, 4), np.nan), 2, "labels", "labels that are no whole numbers"),
        (np.ones((4, 4), dtype=complex), 2, "labels", "must be a 2-D array of whole numbers"),
        (np.zeros((4, 4, 3), dtype=np.uint8), 2, "labels", "is a picture in colours"),
        ([np.zeros((4, 4, 4), dtype=np.uint8)], 2, "labels", "is a picture in colours"),
        (None, 2, "labels", "must be a sequence of label images"),
        (np.ones((1, 4, 4, 3), dtype=int), 2, "labels", "must be a 2-D array of whole numbers"),
        ([], 2, "labels", "must hold at least one label image"),
        ([LEFT_AND_RIGHT, LEFT_AND_RIGHT[:, 2:]], 2, "labels", "must give grids of one shape"),
        (LEFT_AND_RIGHT, 4, "patch_size", "must hold at least two patches"),
        (LEFT_AND_RIGHT, 0, "patch_size", "must be a whole number, 1 or more"),
    ],
)
def test_bad_values_are_named(complaint, labels, patch_size, field, remedy):
    with complaint(field, remedy):
        PatchLayout.from_labels(labels, patch_size=patch_size)


def test_labels_come_in_any_type_of_whole_numbers():
    """Masks of truth values, labels as floats, pictures of one channel: what neighbours' users really have."""
    from PIL import Image

    image = np.repeat(np.repeat([[0, 1, 1], [0, 1, 0]], 2, 0), 2, 1)
    expected = PatchLayout.from_labels(image, patch_size=2)
    for kind in (bool, np.uint8, np.int16, np.uint64, np.float32, np.float64):
        assert PatchLayout.from_labels(image.astype(kind), patch_size=2) == expected
        assert PatchLayout.from_labels(image.astype(kind)[..., None], patch_size=2) == expected
    grey = Image.fromarray(image.astype(np.uint8))
    assert PatchLayout.from_labels(grey, patch_size=2) == expected
    assert PatchLayout.from_labels([grey, grey], patch_size=2).clusters == 2
    assert PatchLayout.from_labels(torch.from_numpy(image), patch_size=2) == expected
    assert PatchLayout.from_labels(np.stack([image, image]), patch_size=2).clusters == 2


def test_many_labels_take_no_array_of_patches_by_labels():
    """65,536 labels on 64 x 64 patches took 2.6 GB: a count of every label in every patch."""
    image = np.arange(256 * 256).reshape(256, 256)
    image[:128] = 7
    tracemalloc.start()
    layout = PatchLayout.from_labels(image, patch_size=4)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert layout.sizes[0, 0] == 32 * 64 and layout.areas == 1 + 32 * 64
    assert peak < 64 * 2**20
