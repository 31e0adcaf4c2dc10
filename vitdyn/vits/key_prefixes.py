"""Which tensors of a file are an encoder: what stands before their names, and whose names they are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from vitdyn.vits.key_tables import LAYOUTS, NUMBER, SECOND, WRAPPERS, Layout


@dataclass(frozen=True, kw_only=True)
class Found:
    """A prefix, a layout, and our name for every key that the layout knows behind the prefix.

    ``rivals`` are other prefixes behind which the file holds about as many.
    """

    prefix: str
    layout: Layout
    names: dict[str, str]
    rivals: tuple[str, ...] = ()


def recognised(tensors: Mapping[str, Tensor], *, branch: str | None, prefix: str | None) -> Found | None:
    """Return the prefix and the layout that name most keys, blocks among them; None where none do.

    Among prefixes that name about as many (nine tenths), those without a word of ``SECOND`` go before. ``branch``
    asks for a prefix that holds this word, and ``prefix`` for itself alone.
    """
    # each layout with each prefix that stands before a key it knows, and the keys so explained
    tries: dict[tuple[str, str], dict[str, str]] = {}
    for layout in LAYOUTS:
        ours_for = _names(layout)
        for key in tensors:
            for start, rest in _splits(key, prefix):
                if ours := ours_for(rest):
                    tries.setdefault((start, layout.name), {})[key] = ours
                    break
    known = {layout.name: layout for layout in LAYOUTS}
    found = [
        Found(prefix=start, layout=known[name], names=names)
        for (start, name), names in tries.items()
        if any(ours.startswith("blocks.") for ours in names.values())
    ]
    # a branch may be a place in the file or, as here, a word of the prefix
    asked = [each for each in found if branch is None or branch in each.prefix.split(".")]
    if not asked:
        return None
    # teacher and student have as many keys but for a head or a mask token
    enough = 0.9 * max(len(each.names) for each in asked)
    best = min(
        (each for each in asked if len(each.names) >= enough),
        key=lambda each: (sum(word in SECOND for word in each.prefix.split(".")), -len(each.names)),
    )
    rivals = {each.prefix: None for each in found if len(each.names) >= enough and each.prefix != best.prefix}
    return replace(best, rivals=tuple(rivals))


def without_wrappers(key: str, prefix: str) -> Iterator[str]:
    """Yield a key without the prefix where it has it, else without one wrapper after the other."""
    if prefix and key.startswith(prefix):
        yield key[len(prefix) :]
    else:
        yield from (rest for _, rest in _splits(key, None))


def _splits(key: str, prefix: str | None) -> Iterator[tuple[str, str]]:
    # a prefix that was given is the only one that is tried
    if prefix is not None:
        if key.startswith(prefix):
            yield prefix, key[len(prefix) :]
        return
    # wrappers may be nested: "module.base_encoder." of parallel training and MoCo v3
    at = 0
    yield "", key
    while (dot := key.find(".", at)) >= 0 and key[at:dot] in WRAPPERS:
        at = dot + 1
        yield key[:at], key[at:]


def _names(layout: Layout) -> Callable[[str], str | None]:
    """Return the function from a layout's names to ours."""
    table = dict(layout.keys)
    # four digits at most: a file must not make us count to a number that it names
    start = next(theirs.split(NUMBER)[0] for theirs in table if NUMBER in theirs)
    block = re.compile(re.escape(start) + r"(0|[1-9]\d{0,3})\.(.+)", re.DOTALL)

    def ours_for(name: str) -> str | None:
        match = block.fullmatch(name)
        ours = table.get(f"{start}{NUMBER}.{match[2]}" if match else name)
        return ours.replace(NUMBER, match[1] if match else "") if ours else None

    return ours_for
