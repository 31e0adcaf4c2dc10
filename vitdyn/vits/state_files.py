"""Files of weights, read without running anything that they hold, and refused where they claim more than they hold."""

from __future__ import annotations

import argparse
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vitdyn.vits.declared_sizes import require_honest, require_in_memory, require_whole
from vitdyn.vits.untrusted import TwiceError, as_path, listed, parsed, printable, read_json, refused

BRANCHES = ("teacher", "student")
"""What a full checkpoint of self-distillation holds; its authors evaluate the teacher."""

_CONTAINERS = (*BRANCHES, "model", "state_dict", "model_state_dict")
_AVERAGES = ("model_ema", "state_dict_ema", "ema", "ema_state_dict")
_INDEX = ".index.json"
_IN_FOLDERS = (
    "model.safetensors",
    f"model.safetensors{_INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{_INDEX}",
)


class StateDict(NamedTuple):
    """Tensors by name, the file and the place inside it where they stood, and what else stood there.

    ``rivals`` are other places of the file that hold tensors by name, and ``branch`` is the one asked for, where
    no place is called so.
    """

    tensors: dict[str, Tensor]
    path: Path
    container: str
    others: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    branch: str | None = None


def read_state_dict(path: str | Path, *, branch: str | None = None) -> StateDict:
    """Return the tensors of a ``.safetensors`` file, of a file that ``torch.save`` wrote, or of an index of several.

    The tensors stand at the top of the file, under "model" (MAE, DeiT) or "state_dict" (MoCo v3), under
    "teacher" and "student" (DINO's full checkpoints), or under a name of moving averages; ``branch`` names the
    one to read. A folder stands for the ``model.safetensors`` or ``pytorch_model.bin`` in it, or their index.

    Pickles are read by torch's restricted reader, which builds tensors, plain containers and
    ``argparse.Namespace`` (the options that training scripts store) and refuses all else. Raises ``ValueError``
    in one line for a file that is missing, truncated, of another kind, asks for anything to be run, or claims more
    numbers than it holds.
    """
    file = _file(as_path("checkpoint", path))
    if file.name.endswith(_INDEX):
        return StateDict(_shards(file), file, "the files that the index names", branch=branch)
    # by what it is and not by what it is called
    if file.suffix == ".safetensors" or _begins_as_safetensors(file):
        return StateDict(_safetensors(file), file, "the file", branch=branch)
    stored = _pickled(file)
    place, tensors, rivals = _inside(stored, file, branch)
    # under a name of a container there may be anything, an optimizer for one
    strange = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if strange:
        raise refused(file, f"{place} holds more than tensors: {listed(strange)}")
    named = {str(name): value for name, value in tensors.items()}
    # before a single number is read: strided tensors are cheap until they are copied
    require_honest(named, file)
    others = () if tensors is stored else tuple(str(name) for name in stored if f"[{name!r}]" not in place)
    unused = None if branch is not None and f"[{branch!r}]" in place else branch
    return StateDict(named, file, place, others, rivals, unused)


def _file(path: Path) -> Path:
    if path.is_dir():
        found = [path / name for name in _IN_FOLDERS if (path / name).is_file()]
        if not found:
            raise refused(path, f"this folder holds neither {' nor '.join(_IN_FOLDERS)}")
        return found[0]
    if not path.is_file():
        raise refused(path, "no such file")
    require_in_memory(path)
    return path


def _shards(index: Path) -> dict[str, Tensor]:
    """Return the tensors of all files that an index names; they stand beside it and each holds what it should."""
    weight_map = read_json(index).get("weight_map")
    named = isinstance(weight_map, Mapping) and all(isinstance(name, str) for name in weight_map.values())
    if not named or not weight_map:
        raise refused(index, "has no weight_map from tensors to files: fetch it again")
    names = sorted(set(weight_map.values()))
    # an index from elsewhere must not lead to files of this machine
    outside = [name for name in names if Path(name).name != name or name in ("", ".", "..")]
    if outside:
        raise refused(index, f"names files outside its folder, {listed(outside)}: refused")
    tensors: dict[str, Tensor] = {}
    for name in names:
        part = read_state_dict(_file(index.parent / name)).tensors
        wanted = {key for key, file in weight_map.items() if file == name}
        if part.keys() != wanted:
            differ = sorted(part.keys() ^ wanted)
            raise refused(index, f"and {name} disagree on {listed(differ)}: fetch both again")
        tensors |= part
    return tensors


def _safetensors(file: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ModuleNotFoundError as error:
        raise refused(file, "needs the package safetensors: install it") from error
    try:
        # JSON lets a name stand twice, and readers differ in which of the two they take
        tensors = load_file(file)
        _require_once(file)
        return tensors
    except TwiceError as error:
        raise refused(file, f"has {listed([error])} twice: fetch it again") from error
    except Exception as error:  # the reader's own error, OSError, or ValueError for an unknown type of number
        raise refused(
            file, f"truncated, or no safetensors file ({_first_line(error)}): fetch it again"
        ) from error


def _begins_as_safetensors(file: Path) -> bool:
    """Return whether a file, whatever it is called, begins with the length of a header, and with the header."""
    try:
        with file.open("rb") as stored:
            # eight bytes of length, then JSON: no archive and no pickle begins so
            start = stored.read(9)
    except OSError as error:
        raise refused(file, f"cannot be read: {error.strerror}") from error
    return len(start) == 9 and start[8:] == b"{" and int.from_bytes(start[:8], "little") < file.stat().st_size


def _require_once(file: Path) -> None:
    """Raise ``TwiceError`` where the header of a good file names a tensor twice: readers take one or the other."""
    with file.open("rb") as stored:
        (length,) = struct.unpack("<Q", stored.read(8))
        parsed(stored.read(length))


def _pickled(file: Path) -> Mapping[Any, Any]:
    require_whole(file)
    try:
        # options of training scripts, which would be refused otherwise; it runs nothing
        with torch.serialization.safe_globals([argparse.Namespace]):
            stored = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # broken files fail in the reader of archives, of pickles or of tensors alike
        raise refused(file, _refusal(error)) from error
    if not isinstance(stored, Mapping):
        raise refused(file, f"holds a {type(stored).__name__} where tensors by name belong")
    return stored


def _refusal(error: Exception) -> str:
    """Return why a file was not read; torch's own words advise to run the code, and are left out."""
    # torch names what a pickle wanted to call
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if asked:
        return f"asks for {asked[1]} to be run: refused, and nothing of it was run; only files of tensors are read"
    if "TorchScript" in str(error):
        return "is a TorchScript archive, which holds code: save the model's state_dict instead"
    reason = type(error).__name__ if "weights_only" in str(error) else _first_line(error)
    return f"truncated, or no file of tensors that torch.save wrote ({reason}): fetch it again"


def _inside(
    stored: Mapping[Any, Any], file: Path, branch: str | None
) -> tuple[str, Mapping[Any, Any], tuple[str, ...]]:
    """Return where the tensors stand, the tensors themselves, and where else tensors stand."""
    places = dict(_places(stored))
    if branch is not None and branch in (named := {words[-1]: words for words in places}):
        chosen = named[branch]
    elif places:
        chosen = next(iter(places))
    elif any(isinstance(value, Tensor) for value in stored.values()):
        return "the file", stored, ()
    else:
        known = ", ".join(repr(name) for name in (*_CONTAINERS, *_AVERAGES))
        raise refused(
            file, f"holds no tensors by name at the top nor under {known}, but {listed(list(stored))}"
        )
    rivals = tuple(words[-1] for words in places if words != chosen)
    return "".join(f"[{name!r}]" for name in chosen), places[chosen], rivals


def _places(stored: Mapping[Any, Any], above: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """Return where tensors stand by name, those that are evaluated by custom first; at most three names deep."""
    found = []
    for name in (*_CONTAINERS, *_AVERAGES):
        value, words = stored.get(name), (*above, name)
        if isinstance(value, Mapping):
            # three names suffice for any known file, and a hostile one cannot nest for ever
            deeper = [] if len(words) == 3 or _has_tensors(value) else _places(value, words)
            found += deeper or [(words, value)]
    return sorted(found, key=lambda each: not _has_tensors(each[1]))


def _has_tensors(value: Mapping[Any, Any]) -> bool:
    return any(isinstance(each, Tensor) for each in value.values())


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return printable(lines[0].rstrip(".")) if lines else type(error).__name__
