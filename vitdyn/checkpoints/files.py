"""Files of weights, read without running anything that they hold."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitdyn._errors import require_choice, wrong

BRANCHES = ("teacher", "student")
"""What a full checkpoint of self-distillation holds; its authors evaluate the teacher."""

_CONTAINERS = ("model", "state_dict")
_IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")


class StateDict(NamedTuple):
    """Tensors by name, the file and the place inside it where they stood, and what else stood there."""

    tensors: dict[str, Tensor]
    path: Path
    container: str
    beside: tuple[str, ...]


def read_state_dict(path: str | Path, *, branch: str = "teacher") -> StateDict:
    """Return the tensors of a ``.safetensors`` file, or of a file that ``torch.save`` wrote.

    The tensors stand at the top of the file, under "model" (MAE, DeiT) or "state_dict" (MoCo v3), or under
    "teacher" and "student" (DINO's full checkpoints; ``branch`` says which). A folder stands for the
    ``model.safetensors`` or ``pytorch_model.bin`` in it.

    Pickles are read by torch's restricted reader, which builds tensors, plain containers and
    ``argparse.Namespace`` (the options that training scripts store) and refuses all else. Raises ``ValueError``
    in one line for a file that is missing, truncated, of another kind, or asks for anything to be run.
    """
    require_choice("branch", branch, BRANCHES)
    file = _file(Path(path))
    if file.suffix == ".safetensors":
        return StateDict(_safetensors(file), file, "the file", ())
    stored = _pickled(file)
    place, tensors = _inside(stored, file, branch)
    strange = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if strange:
        raise wrong("checkpoint", str(file), f"{place} holds more than tensors: {listed(strange)}")
    beside = () if tensors is stored else tuple(str(name) for name in stored if f"[{name!r}]" != place)
    return StateDict({str(name): value for name, value in tensors.items()}, file, place, beside)


def _file(path: Path) -> Path:
    if path.is_dir():
        found = [path / name for name in _IN_FOLDERS if (path / name).is_file()]
        if not found:
            raise wrong("checkpoint", str(path), f"this folder holds neither {' nor '.join(_IN_FOLDERS)}")
        return found[0]
    if not path.is_file():
        raise wrong("checkpoint", str(path), "no such file")
    return path


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise wrong("checkpoint", str(file), "needs the package safetensors: install it") from error
    try:
        return load_file(file)
    except Exception as error:  # the reader's own error, OSError, or ValueError for an unknown type of number
        raise wrong(
            "checkpoint",
            str(file),
            f"truncated, or no safetensors file ({_first_line(error)}): fetch it again",
        ) from error


def _pickled(file: Path) -> Mapping[Any, Any]:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            stored = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # broken files fail in the reader of archives, of pickles or of tensors alike
        raise wrong("checkpoint", str(file), _refusal(error)) from error
    if not isinstance(stored, Mapping):
        raise wrong("checkpoint", str(file), f"holds a {type(stored).__name__} where tensors by name belong")
    return stored


def _refusal(error: Exception) -> str:
    """Return why a file was not read; torch's own words advise to run the code, and are left out."""
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if asked:
        return f"asks for {asked[1]} to be run: refused, and nothing of it was run; only files of tensors are read"
    if "TorchScript" in str(error):
        return "is a TorchScript archive, which holds code: save the model's state_dict instead"
    reason = type(error).__name__ if "weights_only" in str(error) else _first_line(error)
    return f"truncated, or no file of tensors that torch.save wrote ({reason}): fetch it again"


def _inside(stored: Mapping[Any, Any], file: Path, branch: str) -> tuple[str, Mapping[Any, Any]]:
    """Return where the tensors stand and the tensors themselves."""
    names = (branch,) if set(BRANCHES) & set(stored) else _CONTAINERS
    for name in names:
        if isinstance(stored.get(name), Mapping):
            return f"[{name!r}]", stored[name]
    if not any(isinstance(value, Tensor) for value in stored.values()):
        places = ", ".join(repr(name) for name in (*_CONTAINERS, *BRANCHES))
        raise wrong(
            "checkpoint",
            str(file),
            f"holds no tensors by name at the top nor under {places}, but {listed(list(stored))}",
        )
    return "the file", stored


def listed(names: Sequence[object], most: int = 6) -> str:
    """Return names out of a file, on one line whatever they hold, and how many more there are."""
    shown = ", ".join(repr(str(name))[1:-1][:80] for name in names[:most]) or "nothing"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
