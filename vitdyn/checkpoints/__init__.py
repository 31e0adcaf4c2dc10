"""Published Vision Transformers: read without running what files hold, passed through, measured by head."""

from vitdyn.checkpoints.architecture import Architecture
from vitdyn.checkpoints.families import FAMILIES, Assumed
from vitdyn.checkpoints.functional_vit import Forward
from vitdyn.checkpoints.head_metrics import METRICS, HeadMetrics, measure_heads
from vitdyn.checkpoints.image_folders import ImageFolder, find_images, load_images
from vitdyn.checkpoints.key_mapping import KeyReport
from vitdyn.checkpoints.preprocessing import Preprocessing
from vitdyn.checkpoints.published import Checkpoint, forward, read_checkpoint

__all__ = [
    "FAMILIES",
    "METRICS",
    "Architecture",
    "Assumed",
    "Checkpoint",
    "Forward",
    "HeadMetrics",
    "ImageFolder",
    "KeyReport",
    "Preprocessing",
    "find_images",
    "forward",
    "load_images",
    "measure_heads",
    "read_checkpoint",
]
