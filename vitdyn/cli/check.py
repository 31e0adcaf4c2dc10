"""``vitdyn check``: every claim of the theory, and its verdict."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from vitdyn._errors import invalid_value, require_choice
from vitdyn.cli.model import LAYER, model_of

UNDECIDED = 3
"""Exit status of a check that refutes nothing and does not support everything."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Check the claims of the theory: a table of claim, prediction, measurement with interval, verdict.

    Every claim has controls, cases in which it must be refuted. The exit status is 0 if every case supports its
    claim and every control refutes it, 1 if a case refutes a claim or a control does not, and 3 if nothing speaks
    against the claims but a case is inconclusive. Runs that are found in the results folder are not repeated.
    """

    quick: bool = False
    """The small version of each case (eight seeds in place of 32 for the limits of training)."""
    claims: tuple[str, ...] = ()
    """Ids of the claims to check, your ``--module``'s too; all where none is named."""
    model: str = LAYER
    """Model to judge the claims on: one-layer (the theory's), transformer, or your ``--module``'s. Its fields are
    options too. Claims that say nothing of it, of the mean field or of what it lacks, are left out."""
    seed: int = 0
    """Root seed: another one gives every simulation other random streams."""
    results: Path = Path("results")
    """Folder where runs are kept."""
    json: Path | None = None
    """Also write the verdicts to this file; null stands for an interval without an end, or for no number."""
    html: Path | None = None
    """Also write a page on every claim to this file: statement, figure, numbers, verdict. It needs no other file."""
    docs: str | None = None
    """Where the page's links to the notes lead: the folder that ``make docs`` filled, or the address of the built
    documentation. Without one the page names their sections."""
    device: str = "auto"
    """auto, cpu or cuda."""
    anew: bool = False
    """Make kept results and checkpoints again that cannot be used."""

    def __call__(self) -> int:
        """Print the table; return the exit status."""
        from vitdyn._files import require_writable, writable_beside
        from vitdyn.claims import CLAIMS_BY_ID, check, contradicted, passes
        from vitdyn.dynamics import Runtime
        from vitdyn.experiments import ResultStore

        # What can be refused is refused before the first run.
        for name in self.claims:
            require_choice("claims", name, CLAIMS_BY_ID)
        runtime = Runtime(device=self.device, progress=True, anew=self.anew)
        for path in (self.json, self.html):
            if path:
                require_writable(path)
        if self.json and self.html and self.json.resolve() == self.html.resolve():
            raise invalid_value("json", str(self.json), "is the file of the page too: name another")
        docs = self._docs_address()
        chosen = [CLAIMS_BY_ID[name] for name in CLAIMS_BY_ID if not self.claims or name in self.claims]
        if self.model != LAYER:
            chosen = _on(model_of(self), chosen, named=bool(self.claims))
        store = ResultStore(self.results, runtime=runtime)
        verdicts = check(chosen, store, scale="quick" if self.quick else "full", seed=self.seed)
        print(verdicts)
        if self.json:
            with writable_beside(self.json) as scratch:
                scratch.write_text(_verdicts_as_json(verdicts))
        if self.html:
            from vitdyn.pages import write_claim_page

            print(f"page     {write_claim_page(self.html, chosen, verdicts, docs)}")
        return 0 if passes(verdicts) else 1 if contradicted(verdicts) else UNDECIDED

    def _docs_address(self) -> str:
        if self.docs is None:
            return ""
        if not self.html:
            raise invalid_value(
                "docs", self.docs, "is where links of a page lead: name the page, --html FILE"
            )
        from vitdyn.pages import docs_address

        return docs_address(self.docs, self.html)


def _on(model: Any, claims: Any, *, named: bool) -> list[Any]:
    """Return claims as judged on a model. One that is not judged on it is told of, and an error where it was named."""
    found = []
    for claim in claims:
        try:
            found.append(claim.on(model))
        except ValueError as error:
            if named:
                raise
            print(error)
    return found


def _verdicts_as_json(verdicts: Any) -> str:
    """Return verdicts as JSON, which has no infinity and no NaN."""
    plain = [
        {
            name: None if isinstance(value, float) and not isfinite(value) else value
            for name, value in asdict(verdict).items()
        }
        for verdict in verdicts
    ]
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"
