"""A tiny training: two blocks, width 16, digits of 4 x 4 patches, few steps."""

import importlib.util
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from vitdyn.plotting import FigureOptions
from vitdyn.vits import METHODS, Evaluation, Pretraining, SmallViT
from vitdyn.vits.key_tables import NUMBER, TRANSFORMERS_5
from vitdyn.vits.methods import Contrast

TINY = {
    "vit": SmallViT(width=16, depth=2, heads=2, decoder_width=8, decoder_heads=2),
    "evaluation": Evaluation(images=24, objects=12, views=10),
    "steps": 5,
    "batch_size": 8,
    "seed": 3,
}
CONTRAST = {"projection": 8, "temperature": 0.3}
OWN = {"contrast": CONTRAST, "mixture": {"contrast": Contrast(**CONTRAST)}}


@pytest.fixture
def tiny():
    def make(method="reconstruction", **changes):
        """Changes are fields of the method where it has them, else of the training."""
        if method == "untrained":
            return Pretraining(method=None, **{**TINY, "steps": 0, **changes})
        kind = METHODS[method]
        own = {each.name: changes.pop(each.name) for each in fields(kind) if each.name in changes}
        return Pretraining(method=kind(**{**OWN.get(method, {}), **own}), **{**TINY, **changes})

    return make


def published(learner):
    """The weights of a learner under the names of transformers' ``ViTMAEForPreTraining``."""
    theirs = {ours: key for key, ours in TRANSFORMERS_5.keys}
    state = {}
    parts = ((learner.encoder, "vit.", "layers."), (learner.heads["decoder"], "decoder.", "decoder_layers."))
    for part, prefix, blocks in parts:
        for name, value in part.weights.items():
            number = name.split(".")[1] if name.startswith("blocks.") else ""
            key = theirs.get(name.replace(f"blocks.{number}.", f"blocks.{NUMBER}."), name)
            if prefix == "decoder.":
                key = OF_DECODER.get(name, key)
            key = key.replace(f"layers.{NUMBER}.", f"{blocks}{number}.")
            state[prefix + key] = value.detach()
    return state


OF_DECODER = {
    "mask_token": "mask_token",
    "positions": "decoder_pos_embed",
    **{f"{ours}.{end}": f"decoder_{theirs}.{end}" for ours, theirs in (("embed", "embed"), ("norm", "norm"),
       ("pixels", "pred")) for end in ("weight", "bias")},
}  # fmt: skip


@pytest.fixture
def reference(monkeypatch):
    """Build transformers' model with the weights of a learner; its softmax is kept in double where they are."""
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    softmax = torch.nn.functional.softmax
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim, dtype=None: softmax(x, dim=dim))

    def make(spec, learner, **options):
        vit = spec.vit
        config = ViTMAEConfig(
            image_size=spec.images.side, patch_size=vit.patch, num_channels=1, hidden_size=vit.width,
            num_hidden_layers=vit.depth, num_attention_heads=vit.heads, intermediate_size=vit.expansion * vit.width,
            layer_norm_eps=1e-6, decoder_hidden_size=vit.decoder_width, decoder_num_hidden_layers=vit.decoder_depth,
            decoder_num_attention_heads=vit.decoder_heads, attn_implementation="eager",
            decoder_intermediate_size=vit.expansion * vit.decoder_width, **options,
        )  # fmt: skip
        model = ViTMAEForPreTraining(config).double()
        model.load_state_dict(published(learner))
        return model

    return make


@pytest.fixture
def load():
    return script


def script(name):
    """The module of a figure's script."""
    path = Path(__file__).parents[3] / "sims" / f"{name}.py"
    found = importlib.util.spec_from_file_location(f"sims_{name}", path)
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


@pytest.fixture
def run_twice(tmp_path, monkeypatch, capsys):
    """Run a script's main on the runs given, and redraw; return what it printed and drew."""

    def run(module, runs):
        monkeypatch.setattr(module, "runs", runs)
        monkeypatch.setattr("vitdyn.experiments.side_by_side.number_of_workers", lambda *_, **__: 1)
        drawn = []  # to write the pictures takes longer than all else, and is tested with every other script
        keep = lambda drawing, stem: drawn.append((stem.name, drawing.rows))  # noqa: E731
        monkeypatch.setattr(module, "save_figure", keep)
        asked = FigureOptions(out=tmp_path / "figures", results=tmp_path / "results")
        module.main(asked)
        printed = capsys.readouterr().out
        module.main(replace(asked, redraw=True))
        assert repr(drawn[0]) == repr(drawn[1])
        with pytest.raises(ValueError, match="redraw"):
            module.main(replace(asked, redraw=True, results=tmp_path / "none"))
        return printed, drawn[0], len(list((tmp_path / "results").iterdir()))

    return run
