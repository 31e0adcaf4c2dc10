"""Real Vision Transformers: published ones, read without running what their files hold, and small ones, trained here.

A :class:`Pretraining` goes in, a Trajectory comes out: an encoder is trained by one of ``METHODS`` from one seed and
evaluated by depth. A :class:`Landscape` is such a training too: its loss is surveyed about the weights that it goes
through. A published checkpoint goes through the same functional forward and is measured by head. Digits need
scikit-learn, photographs need scikit-image.
"""

from vitdyn.vits.architecture import Architecture
from vitdyn.vits.augmentation import Augmentation
from vitdyn.vits.cost import estimate_seconds
from vitdyn.vits.families import FAMILIES, Assumed
from vitdyn.vits.findings import (
    Effect,
    Finding,
    Interval,
    by_method,
    effect_table,
    effects,
    finding_table,
    findings,
    interval,
    value_table,
)
from vitdyn.vits.functional_vit import Forward
from vitdyn.vits.head_metrics import METRICS, HeadMetrics, measure_heads
from vitdyn.vits.image_folders import ImageFolder, find_images, load_images
from vitdyn.vits.image_sets import Digits, ImageSet, Photographs
from vitdyn.vits.key_mapping import KeyReport
from vitdyn.vits.landscape import Landscape
from vitdyn.vits.landscape_run import survey
from vitdyn.vits.methods import METHODS, Method
from vitdyn.vits.preprocessing import Preprocessing
from vitdyn.vits.pretraining import Evaluation, Pretraining
from vitdyn.vits.pretraining_loop import pretrain
from vitdyn.vits.published import Checkpoint, forward, read_checkpoint
from vitdyn.vits.results import MEANINGS, by_depth, spec_of
from vitdyn.vits.small_vit import SmallViT

__all__ = [
    "FAMILIES",
    "MEANINGS",
    "METHODS",
    "METRICS",
    "Architecture",
    "Assumed",
    "Augmentation",
    "Checkpoint",
    "Digits",
    "Effect",
    "Evaluation",
    "Finding",
    "Forward",
    "HeadMetrics",
    "ImageFolder",
    "ImageSet",
    "Interval",
    "KeyReport",
    "Landscape",
    "Method",
    "Photographs",
    "Preprocessing",
    "Pretraining",
    "SmallViT",
    "by_depth",
    "by_method",
    "effect_table",
    "effects",
    "estimate_seconds",
    "find_images",
    "finding_table",
    "findings",
    "forward",
    "interval",
    "load_images",
    "measure_heads",
    "pretrain",
    "read_checkpoint",
    "spec_of",
    "survey",
    "value_table",
]
