"""Real images and small Vision Transformers of several blocks: what the theory's objectives do in practice.

A :class:`Pretraining` goes in, a Trajectory comes out: an encoder is trained by one of four methods from one seed and
evaluated by depth. An Experiment holds one, and a ResultStore keeps its result. Digits need scikit-learn, photographs
need scikit-image.
"""

from vitdyn.practice.augmentation import Augmentation
from vitdyn.practice.cost import estimate_seconds
from vitdyn.practice.findings import (
    Finding,
    Interval,
    by_method,
    finding_table,
    findings,
    interval,
    value_table,
)
from vitdyn.practice.image_sets import Digits, Images, ImageSet, Photographs
from vitdyn.practice.pretraining import METHODS, Evaluation, Pretraining
from vitdyn.practice.pretraining_loop import pretrain
from vitdyn.practice.results import MEANINGS, by_depth, spec_of
from vitdyn.practice.small_vit import SmallViT

__all__ = [
    "MEANINGS",
    "METHODS",
    "Augmentation",
    "Digits",
    "Evaluation",
    "Finding",
    "ImageSet",
    "Images",
    "Interval",
    "Photographs",
    "Pretraining",
    "SmallViT",
    "by_depth",
    "by_method",
    "estimate_seconds",
    "finding_table",
    "findings",
    "interval",
    "pretrain",
    "spec_of",
    "value_table",
]
