"""Whose result a file holds: of which experiment, and of which formulas."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitdyn._specs import encode, text_or_reason
from vitdyn.trajectory import FORMULAS, Trajectory, unusable, versions


def key_or_reason(training: Any) -> tuple[str, str | None]:
    """Return sixteen hexadecimal digits that stand for a specification, or why nothing can stand for it."""
    text, reason = text_or_reason(training)
    return hashlib.sha256(text.encode()).hexdigest()[:16], reason


def require_result_of(training: Any, trajectory: Trajectory, path: Path) -> None:
    """Raise ``ValueError``, naming the first difference, where a file holds the result of another specification."""
    try:
        held = json.loads(trajectory.dataset.attrs["experiment"])["training"]
    except (KeyError, TypeError, ValueError):
        raise unusable(path, "does not say of which experiment it is the result") from None
    different = _difference(held, json.loads(json.dumps(encode(training))))
    if different:
        raise unusable(path, f"holds the result of another experiment ({different})")


def why_outdated(about: Mapping[str, Any]) -> str | None:
    """Return why a result of these attributes is none of today's formulas, None where it is."""
    made, today = _release(str(about.get("versions", ""))), _release(versions("vitdyn"))
    if about.get("formulas") != FORMULAS:
        return f"was made by formulas {about.get('formulas', 1)}, today's are {FORMULAS}"
    return None if made == today else f"was made by vitdyn {made}, this is {today}"


def _release(text: str) -> str:
    """Return major and minor version of vitdyn, as results name it."""
    found = re.search(r"\bvitdyn=(\d+\.\d+|\S+)", text)
    return found[1] if found else "unknown"


def _difference(held: Any, asked: Any, place: str = "training") -> str | None:
    """Return where two encoded specifications differ first, and how."""
    if isinstance(held, dict) and isinstance(asked, dict):
        for name in sorted(held.keys() | asked.keys(), key=lambda name: (name != "kind", name)):
            found = _difference(held.get(name), asked.get(name), f"{place}.{name}")
            if found:
                return found
        return None
    if held == asked and type(held) is type(asked):
        return None
    shown = [text if len(text := repr(value)) < 60 else text[:57] + "..." for value in (held, asked)]
    return f"{place} is {shown[0]}, asked for was {shown[1]}"
