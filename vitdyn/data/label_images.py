"""From label images, as segmentations give them, to the areas of a layout."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int

from vitdyn._errors import as_array, invalid_value, require_sequence


def label_images(labels: Any) -> list[Int[np.ndarray, "row column"]]:
    """Return each label image as an array of whole numbers."""
    is_array = hasattr(labels, "__array_interface__") or hasattr(labels, "__array__")
    whole = as_array("labels", labels) if is_array else None
    if whole is not None:
        channels = whole.shape[-1] if whole.ndim == 3 else 1
        if channels == 1 or (channels in (3, 4) and whole.dtype == np.uint8):
            return [_whole_labels(whole)]
    require_sequence("labels", labels, "label images, one for each cluster")
    if not len(labels):
        raise invalid_value("labels", labels, "must hold at least one label image")
    return [_whole_labels(as_array("labels", image)) for image in labels]


def _whole_labels(image: np.ndarray) -> Int[np.ndarray, "row column"]:
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    shown = (image.shape, str(image.dtype))
    if image.ndim == 3 and image.shape[-1] in (3, 4):
        raise invalid_value(
            "labels",
            shown,
            "is a picture in colours; give one label to a pixel, as "
            "np.unique(picture.reshape(-1, 3), axis=0, return_inverse=True)[1].reshape(picture.shape[:2]) does",
        )
    if image.ndim != 2 or image.dtype.kind not in "biuf":
        raise invalid_value("labels", shown, "must be a 2-D array of whole numbers")
    if image.dtype.kind == "f":
        if not (np.isfinite(image) & (np.trunc(image) == image) & (abs(image) < 2**53)).all():
            raise invalid_value("labels", shown, "has labels that are no whole numbers")
        image = image.astype(np.int64)
    return image


def majority_labels(image: Int[np.ndarray, "row column"], patch_size: int) -> np.ndarray:
    """Return the most frequent label of each patch of an image, (row, column); the smallest such label in a tie."""
    rows, columns = image.shape[0] // patch_size, image.shape[1] // patch_size
    if rows * columns < 2:
        raise invalid_value(
            "patch_size", patch_size, f"an image of {image.shape} pixels must hold at least two patches"
        )
    if (image == image.flat[0]).all():
        raise invalid_value(
            "labels", image.flat[0].item(), "the image has one label only; it must have at least two areas"
        )
    cut = image[: rows * patch_size, : columns * patch_size].reshape(rows, patch_size, columns, patch_size)
    blocks = np.sort(cut.transpose(0, 2, 1, 3).reshape(rows * columns, -1), axis=-1)
    # the longest run of a sorted block is its most frequent label, and the first of equal runs the smallest
    first = np.ones(blocks.shape, dtype=bool)
    first[:, 1:] = blocks[:, 1:] != blocks[:, :-1]
    starts = np.flatnonzero(first)
    lengths = np.zeros(blocks.size, dtype=np.int64)
    lengths[starts] = np.diff(starts, append=blocks.size)
    longest = lengths.reshape(blocks.shape).argmax(1)
    return blocks[np.arange(len(blocks)), longest].reshape(rows, columns)


def areas_by_size(majority: np.ndarray) -> tuple[int, ...]:
    """Return the area index of each patch, row by row: labels ranked by how many patches they have."""
    values, codes, counts = np.unique(majority, return_inverse=True, return_counts=True)
    if len(values) < 2:
        raise invalid_value(
            "labels",
            values.tolist(),
            "every patch got one label; take smaller patches or a finer segmentation",
        )
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(len(values))
    return tuple(rank[codes].ravel().tolist())
