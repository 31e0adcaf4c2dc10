"""What is minimised: each objective is a differentiable function of a model's outputs.

To add one, write it in a file of its own and ``register`` it: README has the file.

>>> vd.objectives.DINO(student_temperature=0.2).momentum
0.99
"""

from vitdyn._registry import Registry
from vitdyn.objectives.closed_form import ClosedForm, MeanPooled, Reduction, Residual
from vitdyn.objectives.families.alignment_uniformity import AlignmentUniformity
from vitdyn.objectives.families.barlow_twins import BarlowTwins
from vitdyn.objectives.families.beit import BEiT
from vitdyn.objectives.families.byol import BYOL
from vitdyn.objectives.families.cmae import CMAE
from vitdyn.objectives.families.contrastive import Contrastive
from vitdyn.objectives.families.data2vec import Data2Vec
from vitdyn.objectives.families.deepcluster import DeepCluster
from vitdyn.objectives.families.dino import DINO
from vitdyn.objectives.families.i_jepa import IJEPA
from vitdyn.objectives.families.ibot import IBOT
from vitdyn.objectives.families.masked_reconstruction import MaskedReconstruction
from vitdyn.objectives.families.mixture import Mixture
from vitdyn.objectives.families.moco import MoCo
from vitdyn.objectives.families.msn import MSN
from vitdyn.objectives.families.rc_mae import RCMAE
from vitdyn.objectives.families.simclr import SimCLR
from vitdyn.objectives.families.simmim import SimMIM
from vitdyn.objectives.families.simsiam import SimSiam
from vitdyn.objectives.families.spectral import Spectral
from vitdyn.objectives.families.swav import SwAV
from vitdyn.objectives.families.u_mae import UMAE
from vitdyn.objectives.families.vicreg import VICReg
from vitdyn.objectives.forward import ForwardPass, State
from vitdyn.objectives.masking import Masking
from vitdyn.objectives.objective import Objective
from vitdyn.objectives.stacked import hyperparameter

OBJECTIVES = Registry(
    "objective",
    lambda kind: isinstance(kind, type) and issubclass(kind, Objective),
    {
        "mae": MaskedReconstruction,
        "simmim": SimMIM,
        "beit": BEiT,
        "u-mae": UMAE,
        "cl": Contrastive,
        "simclr": SimCLR,
        "moco": MoCo,
        "spectral": Spectral,
        "alignment-uniformity": AlignmentUniformity,
        "vicreg": VICReg,
        "barlow-twins": BarlowTwins,
        "swav": SwAV,
        "msn": MSN,
        "deepcluster": DeepCluster,
        "byol": BYOL,
        "simsiam": SimSiam,
        "dino": DINO,
        "data2vec": Data2Vec,
        "i-jepa": IJEPA,
        "mixture": Mixture,
        "rc-mae": RCMAE,
        "ibot": IBOT,
        "cmae": CMAE,
    },
)

__all__ = [
    "BYOL",
    "CMAE",
    "DINO",
    "IBOT",
    "IJEPA",
    "MSN",
    "OBJECTIVES",
    "RCMAE",
    "UMAE",
    "AlignmentUniformity",
    "BEiT",
    "BarlowTwins",
    "ClosedForm",
    "Contrastive",
    "Data2Vec",
    "DeepCluster",
    "ForwardPass",
    "MaskedReconstruction",
    "Masking",
    "MeanPooled",
    "Mixture",
    "MoCo",
    "Objective",
    "Reduction",
    "Residual",
    "SimCLR",
    "SimMIM",
    "SimSiam",
    "Spectral",
    "State",
    "SwAV",
    "VICReg",
    "hyperparameter",
]
