"""What a file of weights declares is compared with what it holds, before anything of that size is made."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from vitdyn._memory import machine_memory
from vitdyn.vits.untrusted import listed, refused

_SHARING = 16
"""Tensors may share memory, tied weights for one; all of them claim at most so many times what the file holds."""


def require_in_memory(file: Path) -> None:
    """Raise for a file that is larger than the memory of this machine; one of holes takes no room on a disk."""
    size, held = file.stat().st_size, machine_memory()
    if held is not None and size > held:
        shown = f"{size / 2**30:,.1f} GiB, and this machine has {held / 2**30:,.1f} of memory"
        raise refused(file, f"has {shown}: read it on a larger one, or save its encoder alone")


def require_whole(file: Path) -> None:
    """Raise for an archive with a part that does not fit its checksum, which torch's reader does not compare.

    Before that, for one whose parts would unpack to more than twice the file: ``torch.save`` never compresses. Parts
    without a checksum have 0, as ``torch.serialization.set_crc32_options`` allows.
    """
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return  # no archive: the older format, or nothing that torch reads
    with archive:
        claimed, held = sum(part.file_size for part in archive.infolist()), file.stat().st_size
        if claimed > 2 * held + 2**16:
            raise refused(
                file,
                f"is compressed, and {held:,} bytes claim to unpack to {claimed:,}: "
                "load it where you trust it, and save its state_dict anew",
            )
        for part in archive.infolist():
            if part.CRC and not _fits_checksum(archive, part):
                what = f"damaged: {listed([part.filename])} does not fit its checksum"
                raise refused(file, f"{what}: fetch it again")


def _fits_checksum(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(part) as stored:
            while stored.read(2**20):
                pass
    except Exception:  # zipfile raises many kinds for what was damaged in another way
        return False
    return True


def require_honest(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raise where tensors claim more numbers than were stored: a zero stride makes gigabytes of one number."""
    held, total = file.stat().st_size, 0
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_meta or tensor.is_quantized:
            continue  # refused by kind where it is read as a weight
        # by the shape, not by the storage: a stride of 0 repeats one number
        claimed = tensor.numel() * tensor.element_size()
        total += claimed
        if claimed > tensor.untyped_storage().nbytes() or total > _SHARING * held:
            raise refused(
                file,
                f"{listed([name])} of shape {tuple(tensor.shape)} claims more numbers than the file's "
                f"{held:,} bytes hold: fetch it again",
            )
