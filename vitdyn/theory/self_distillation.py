"""A centred, sharpened teacher: which of its temperatures turn DINO to the global area, and which to nothing at all."""

from __future__ import annotations

from vitdyn._errors import require_integer, require_kind, require_real
from vitdyn.data import AreaSizes, Distribution
from vitdyn.theory.cosine import count_noise
from vitdyn.theory.regime import checked, drawn_latents


def centre_threshold(clusters: int, student_temperature: float = 0.1) -> float:
    """Return τ_t* = τ_s (1 − 1/K): DINO turns to the global area where its teacher is sharper, away from it else.

    The centre is the mean of the teacher's logits over clusters, so it takes the part 1/K off those of a sample's own
    cluster. Among these the teacher is then the student at the temperature τ_t/(1 − 1/K): where that is below τ_s, the
    largest of them grows. With one cluster the centre takes all, and no temperature does that. Source: our notes,
    derivations.md.

    >>> vd.theory.centre_threshold(4, student_temperature=0.1)
    0.07500000000000001
    """
    require_integer("clusters", clusters, at_least=1, at_most=10**15)
    require_real("student_temperature", student_temperature, low=0.0, high=1e6, open_low=True)
    return student_temperature * (1 - 1 / clusters)


@checked
def uniform_threshold(
    sizes: AreaSizes, distribution: Distribution, student_temperature: float = 0.1, mask_ratio: float = 0.5
) -> float:
    """Return τ_t* = τ_s (m_3 − m_1 m_2)/((1 + v) m_3 − m_1 m_2), m_k = E z^k: above it DINO's outputs become uniform.

    With one cluster the centre makes all logits equal in the mean. What is left of the teacher's are the deviations of
    the latents, which the student shares, and of visible counts, of relative variance v = γ/(1 − γ) (P − C_s)/(C_s (P −
    1)) in a local area, which it does not: independent views have them independently. The student follows the teacher
    where sharpening makes up for that noise; else it comes nearest to it by a uniform output. To first order in the
    deviations, at φ = 0 of local areas. Source: our notes, derivations.md.
    """
    require_kind("sizes", sizes, AreaSizes)
    require_real("student_temperature", student_temperature, low=0.0, high=1e6, open_low=True)
    require_real("mask_ratio", mask_ratio, low=0.0, high=1.0, open_low=True, open_high=True)
    noise = count_noise(sizes.local_size, sizes.patches, mask_ratio)
    third = float((drawn_latents(distribution) ** 3).mean())
    signal = third - distribution.mean * distribution.second_moment
    return student_temperature * signal / (signal + noise * third)
