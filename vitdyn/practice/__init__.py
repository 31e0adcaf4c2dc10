"""Real images and small Vision Transformers of several blocks: what the theory's objectives do in practice.

A :class:`Pretraining` goes in, a :class:`Record` comes out: an encoder of the transformers package is trained by one of
four methods from one seed and looked at by depth. Needs the packages transformers, scikit-learn and scikit-image.
"""

from vitdyn.practice.augmentation import Augmentation
from vitdyn.practice.encoder import Architecture
from vitdyn.practice.findings import (
    Finding,
    Interval,
    by_method,
    finding_table,
    findings,
    interval,
    value_table,
)
from vitdyn.practice.images import Digits, Images, ImageSet, Photographs
from vitdyn.practice.pretraining import METHODS, Analysis, Pretraining
from vitdyn.practice.record import MEANINGS, Record
from vitdyn.practice.store import PracticeStore, estimate_seconds, run

__all__ = [
    "MEANINGS",
    "METHODS",
    "Analysis",
    "Architecture",
    "Augmentation",
    "Digits",
    "Finding",
    "ImageSet",
    "Images",
    "Interval",
    "Photographs",
    "PracticeStore",
    "Pretraining",
    "Record",
    "by_method",
    "estimate_seconds",
    "finding_table",
    "findings",
    "interval",
    "run",
    "value_table",
]
