"""Self-distillation: BYOL, SimSiam, DINO, data2vec, I-JEPA."""

from literal import Case

CASES: list[Case] = []
