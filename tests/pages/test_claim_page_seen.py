"""The page of claims as a reader sees it, in a browser (exact)."""

from vitdyn.claims import CLAIMS
from vitdyn.pages import claim_page


def test_a_claim_is_reached_from_the_contents(look):
    page = look(claim_page(CLAIMS[:12], []), width=390)
    claim = CLAIMS[5].id
    page.get_by_role("link", name=claim, exact=True).click()
    assert page.evaluate("location.hash") == f"#{claim}"
    assert 0 <= page.locator("section:target h2").bounding_box()["y"] < 800
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
