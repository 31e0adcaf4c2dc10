"""What says what vitdyn is, in four places, agrees: metadata, citation, changelog, licence. Exact."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())


def test_one_version_stands_everywhere():
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert PROJECT["version"] == str(CITATION["version"]) == newest[1]


def test_metadata_and_citation_say_the_same():
    assert PROJECT["license"] == CITATION["license"]
    assert PROJECT["keywords"] == CITATION["keywords"]
    assert [author["name"] for author in PROJECT["authors"]] == [each["name"] for each in CITATION["authors"]]
    assert set(PROJECT["urls"].values()) <= {each["url"] for each in CITATION["references"]}


def test_whatever_vitdyn_is_made_of_has_a_lower_bound_and_no_upper_one():
    """Oldest versions are tried by ``make versions``; an upper cap is what users of a library suffer from."""
    extras = PROJECT["optional-dependencies"].values()
    for requirement in (*PROJECT["dependencies"], *(each for extra in extras for each in extra)):
        assert re.fullmatch(r"[\w-]+>=[\d.]+( *;.*)?|vitdyn\[\w+\]", requirement), requirement
