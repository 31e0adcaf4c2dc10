"""Where the works that claims name can be read."""

from __future__ import annotations

ARXIV: dict[tuple[str, str], str] = {
    ("Huang", "2025"): "2403.02233",
    ("Park", "2023"): "2305.00729",
    ("Thilak", "2024"): "2312.04000",
    ("Lee", "2023"): "2210.02077",
}
"""Number at arXiv by first author and year, as sentences name a work: "Huang et al. (2025)"."""
