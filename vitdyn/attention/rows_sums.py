"""The two products with a 0/1 matrix, by tables or by tiles: the type of the codes, known to the compiler, decides.

Codes are words of 32 bits of a mask: as bytes that are addresses (``rows_tables``, any processor and type), or as
bfloat16 numbers, in ``uint16`` (``rows_tiles``, float32 where a core has a matrix unit). Either module brings the
functions below; all take the codes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.extending import overload

from vitdyn.attention import rows_tables, rows_tiles


def _by_codes(name: str) -> Callable[..., Any]:
    """Return what stands in compiled code for the function of this name of either module."""
    of_tables, of_tiles = getattr(rows_tables, name), getattr(rows_tiles, name)

    def either(codes, *rest):  # pragma: no cover  (replaced in compiled code)
        raise NotImplementedError

    @overload(either)
    def choose(codes, *rest):  # pragma: no cover  (called by the compiler)
        if codes.dtype == types.uint16:
            return lambda codes, *rest: of_tiles(codes, *rest)
        return lambda codes, *rest: of_tables(codes, *rest)

    return either


begin = _by_codes("begin")
"""Make the thread ready for sums."""
end = _by_codes("end")
"""Give back what ``begin`` took."""
flip_codes = _by_codes("flip_codes")
"""Write the codes of the masked keys of the slots of one cluster."""
add_masses = _by_codes("add_masses")
"""Write W (area · slot) of the slots of one cluster."""
add_pulled = _by_codes("add_pulled")
"""Add to each key's row the rows of its area of a cluster's samples that show it."""
