"""Pages of HTML that need no other file: one style, light and dark, for a screen, a phone and paper."""

from vitdyn.pages.claim_page import claim_page, docs_address, write_claim_page

__all__ = ["claim_page", "docs_address", "write_claim_page"]
