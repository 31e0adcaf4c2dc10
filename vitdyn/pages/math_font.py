"""How far scripts stand off their line, for readers without a font of mathematics, most Linux systems among them.

A browser takes these distances from the table MATH of the font of a formula. A font of text has none, and indices
stand on the line. So pages carry a font of one glyph, a space, that has the table: a browser looks up distances in it,
finds no letters there, and goes on to the next font of the list for these.
"""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from io import BytesIO

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import newTable
from fontTools.ttLib.tables import otTables
from fontTools.ttLib.tables.otData import otData

NAME = "Vitdyn Scripts"

# Thousandths of the size of type, and percent for the scale; what is not named is 0.
_DISTANCES = {
    "ScriptPercentScaleDown": 72,
    "ScriptScriptPercentScaleDown": 56,
    "AxisHeight": 270,
    "SubscriptShiftDown": 180,
    "SubscriptTopMax": 600,
    "SuperscriptShiftUp": 370,
    "SuperscriptShiftUpCramped": 340,
    "SuperscriptBottomMin": 100,
    "SuperscriptBaselineDropMax": 500,
    "SubSuperscriptGapMin": 100,
    "SuperscriptBottomMaxWithSubscript": 350,
    "SpaceAfterScript": 40,
}


@cache
def font_face() -> str:
    """Return the rule of a style sheet that brings the font, under the name ``NAME``."""
    held = BytesIO()
    _font().save(held)
    data = b64encode(held.getvalue()).decode()
    return f'@font-face {{ font-family: "{NAME}"; src: url(data:font/ttf;base64,{data}); }}'


def _font() -> FontBuilder:
    builder = FontBuilder(1000, isTTF=True)
    empty = TTGlyphPen(None).glyph()
    builder.setupGlyphOrder([".notdef", "space"])
    builder.setupCharacterMap({ord(" "): "space"})
    builder.setupGlyf({".notdef": empty, "space": empty})
    builder.setupHorizontalMetrics({".notdef": (300, 0), "space": (300, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": NAME, "styleName": "Regular"})
    builder.setupOS2(sTypoAscender=800, sTypoDescender=-200, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.font["MATH"] = newTable("MATH")
    builder.font["MATH"].table = _table(
        "MATH", Version=0x00010000, MathConstants=_constants(), MathGlyphInfo=_table("MathGlyphInfo"),
        MathVariants=_table("MathVariants", VertGlyphConstruction=[], HorizGlyphConstruction=[]),
    )  # fmt: skip
    # No date in it: the same page is the same bytes.
    builder.font["head"].created = builder.font["head"].modified = 0
    builder.font.recalcTimestamp = False
    return builder


def _constants() -> otTables.MathConstants:
    def value(kind: str, name: str) -> object:
        number = _DISTANCES.get(name, 0)
        return _table("MathValueRecord", Value=number) if kind == "MathValueRecord" else number

    return _table(
        "MathConstants", **{name: value(kind, name) for kind, name, *_ in dict(otData)["MathConstants"]}
    )


def _table(kind: str, **fields: object) -> otTables.BaseTable:
    """Return a table; browsers refuse the whole font where a part of it is left out, so that parts may be empty."""
    table = getattr(otTables, kind)()
    for name in (name for _, name, *_ in dict(otData).get(kind, ())):
        setattr(table, name, fields.get(name, 0 if name.endswith(("Count", "Overlap")) else None))
    for name, part in fields.items():
        setattr(table, name, part)
    return table
