"""A folder of images, some of which may be broken or no images at all."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from vitdyn._errors import invalid_value, require_integer
from vitdyn.vits.preprocessing import Preprocessing, require_readable
from vitdyn.vits.untrusted import as_path, printable

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF")
"""What is opened, by Pillow's names: these decode in this process; for others Pillow may run programs."""

_ORIENTATION = 0x0112


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """The images of a folder in the order of their paths, and what in it was not read, each with the reason.

    ``hidden`` counts the files and folders whose names begin with a point, which are passed over unread. ``notes``
    says what of the images is read in one of several ways: the first of many frames, rotation tags ignored.
    """

    paths: tuple[Path, ...]
    skipped: tuple[tuple[Path, str], ...]
    hidden: int = 0
    notes: tuple[str, ...] = ()


def find_images(
    folder: str | Path, *, limit: int | None = None, preprocessings: Iterable[Preprocessing] = ()
) -> ImageFolder:
    """Decode the files of a folder and of those inside it, in order, until ``limit`` are good.

    Hidden files, folders that are linked and pictures that vitdyn drew are not read, and neither is an image that one
    of the ``preprocessings`` refuses. Raises ``ValueError`` where there is no such folder, or no image that can
    be read in it.
    """
    root, wanted = as_path("images", folder), tuple(preprocessings)
    if limit is not None:
        require_integer("limit", limit, at_least=1)
    if not root.is_dir():
        raise invalid_value("images", str(root), "no such folder")
    good: list[Path] = []
    notes: Counter[str] = Counter()
    files, skipped, hidden = _walked(root)
    for path in files:
        if len(good) == limit:
            break
        try:
            # decoded now and again when it goes in: all pictures of a folder need not fit in memory
            notes.update(_decoded(path, wanted)[1])
            good.append(path)
        except Exception as error:  # Pillow raises many kinds for broken files
            skipped.append((path, _reason(error, path)))
    if not good:
        others = f"{len(skipped)} other files" + (f", {hidden} hidden" if hidden else "")
        raise invalid_value("images", str(root), f"holds no image that can be read ({others})")
    return ImageFolder(
        paths=tuple(good),
        skipped=tuple(sorted(skipped)),
        hidden=hidden,
        notes=tuple(f"{count} {words}" for words, count in sorted(notes.items())),
    )


def _walked(root: Path) -> tuple[list[Path], list[tuple[Path, str]], int]:
    """Return the files that may be images, what is passed over with the reason, and how much is hidden."""
    files, hidden = [], 0
    skipped: list[tuple[Path, str]] = []

    def unread(error: OSError) -> None:
        # os.walk would pass over such a folder in silence
        skipped.append((Path(error.filename), f"cannot be opened ({error.strerror})"))

    # not followed: a linked folder may lead out of the tree, or round in a circle
    for place, folders, names in os.walk(root, onerror=unread):
        here, shown = Path(place), [name for name in folders if not name.startswith(".")]
        hidden += len(folders) - len(shown) + sum(name.startswith(".") for name in names)
        linked = [name for name in shown if (here / name).is_symlink()]
        skipped += [(here / name, "a linked folder, which is not followed") for name in linked]
        folders[:] = [name for name in shown if name not in linked]
        for path in (here / name for name in names if not name.startswith(".")):
            if not path.is_file():
                skipped.append((path, "a link to nothing" if path.is_symlink() else "no file"))
            else:
                files.append(path)
    once = _once(files)
    skipped += [(path, "a link to a file that is read already") for path in set(files) - set(once)]
    return once, skipped, hidden


def _once(files: Sequence[Path]) -> list[Path]:
    """Return the files in order, without the links to one of the others, or to what another link leads to."""
    # the same picture twice would weigh twice in every mean
    double, links = set(), [path for path in sorted(files) if path.is_symlink()]
    seen = {path.resolve() for path in files if not path.is_symlink()} if links else set()
    for path in links:
        if (target := path.resolve()) in seen:
            double.add(path)
        seen.add(target)
    return sorted(set(files) - double)


def load_images(
    paths: Sequence[Path], preprocessing: Preprocessing
) -> Float[Tensor, "image channel height width"]:
    """Return images as a preprocessed batch. Raises ``ValueError`` for one that cannot be read."""
    if not len(paths):
        raise invalid_value("paths", paths, "must name at least one image")
    return torch.stack([_loaded(as_path("paths", path), preprocessing) for path in paths])


def _loaded(path: Path, preprocessing: Preprocessing) -> Float[Tensor, "channel height width"]:
    try:
        image, _ = _decoded(path, (preprocessing,))
    except Exception as error:  # as in find_images; a file may have changed since
        raise invalid_value("image", str(path), f"cannot be read: {_reason(error, path)}") from error
    return preprocessing(image)


def _decoded(path: Path, preprocessings: Iterable[Preprocessing]) -> tuple[Image, list[str]]:
    """Return a file's first image and what to say of it; its size is judged before anything of it is decoded."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # oddities of metadata; what cannot be decoded is an error
        with Image.open(path, formats=FORMATS) as image:
            # the header alone is read so far
            require_readable(image)
            for preprocessing in preprocessings:
                preprocessing.require_fits(image)
            notes = _notes(image)  # before it is decoded, which forgets how; asking may move to another frame
            image.load()
            # figures of our own lie in folders of results and are no photographs
            if image.info.get("Source") == "vitdyn":
                raise invalid_value("image", path.name, "a picture that vitdyn drew")
            if _asks_to_rotate(image):
                notes.append("with a tag that asks for a rotation, which is ignored")
            return image, notes


def _notes(image: Image) -> list[str]:
    found = {
        "of several frames, of which the first is read": getattr(image, "is_animated", False),
        "with transparency, which is dropped": image.has_transparency_data,
        "of sixteen bits a colour, of which the upper eight are read": ";16"
        in str(getattr(image, "tile", "")),
    }
    return [words for words, holds in found.items() if holds]


def _asks_to_rotate(image: Image) -> bool:
    with suppress(Exception):  # broken metadata of a good image ask for nothing
        return image.getexif().get(_ORIENTATION, 1) != 1
    return False


def _reason(error: Exception, path: Path) -> str:
    from PIL import Image

    if type(error).__name__ == "UnidentifiedImageError":
        # Pillow knows more formats than we let it open, some by running programs
        other = Image.registered_extensions().get(path.suffix.lower())
        known = other is None or other in FORMATS
        return "no image" if known else f"{other} is not read, only {', '.join(FORMATS)}: convert it"
    return printable(str(error).splitlines()[0]) if str(error) else type(error).__name__
