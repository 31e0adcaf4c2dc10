"""A loss about a point (exact): its derivatives, the layer's and a small ViT's among them, and what is refused."""

import pytest
import torch

from vitdyn.data import PatchGenerator, PatchLayout
from vitdyn.dynamics import Schedule, Training, simulate
from vitdyn.landscape import Hessian, Surface, module_surface
from vitdyn.objectives import RCMAE, Contrastive, MaskedReconstruction, SimSiam
from vitdyn.observables import Observable
from vitdyn.observables.loss_surface import loss_surface as layer_surface
from vitdyn.vits import METHODS, Pretraining
from vitdyn.vits.loss_surface import loss_surface as vit_surface
from vitdyn.vits.pretraining_loop import train


def finite_difference(surface, direction, step=1e-4):
    ahead, behind = surface.gradient(step * direction), surface.gradient(-step * direction)
    return (ahead - behind) / (2 * step)


def slope_of(surface, step=1e-4):
    along = surface.gradient()
    along = step * along / along.norm()
    return torch.tensor((surface.value(along) - surface.value(-along)) / (2 * step), dtype=along.dtype)


def direction_of(surface, seed=0):
    drawn = torch.randn(surface.dimension, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn / drawn.norm()


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("objective", [MaskedReconstruction(), Contrastive(), RCMAE(weight=2.0), SimSiam()])
def test_derivatives_of_the_layer_are_those_of_training_and_of_differences(objective, content):
    found = {}

    def look(state):
        surface, moving = layer_surface(state), layer_surface(state, stopped="moving")
        found["same"] = torch.allclose(surface.gradient(), moving.gradient())
        found["slope"] = moving.gradient().norm(), slope_of(moving)
        found["gradient"] = (
            surface.gradient(),
            torch.cat([x.flatten() for x in state.gradient.named().values()]),
        )
        found["loss"] = surface.value(), float(state.loss)
        along = direction_of(surface)
        found["product"] = Hessian(surface) @ along, finite_difference(surface, along)
        return state.loss

    layout = PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5, clusters=2)
    simulate(
        Training(
            generator=PatchGenerator(layout=layout),
            objective=objective,
            observables=(Observable(name="look", compute=look),),
            steps=5,
            precision="float64",
            content_queries=content,
            schedule=Schedule(frames=2),
        )
    )
    torch.testing.assert_close(*found["gradient"], rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(*found["loss"], rtol=1e-12, atol=0)
    torch.testing.assert_close(*found["slope"], rtol=1e-6, atol=0)
    assert found["same"] is not isinstance(objective, Contrastive | SimSiam)  # these two stop gradients
    product, difference = found["product"]
    assert (product - difference).norm() < 1e-6 * product.norm()


@pytest.mark.parametrize("name", METHODS)
def test_hessian_products_of_small_vits_are_differences_of_gradients(name):
    spec = Pretraining(method=METHODS[name](), steps=2, seed=3)
    learner = train(spec).learner
    before = {key: value.clone() for key, value in learner.state_dict().items()}
    surface = vit_surface(spec, learner, images=16)
    along = direction_of(surface)
    product, difference = Hessian(surface) @ along, finite_difference(surface, along)
    assert (product - difference).norm() < 1e-6 * product.norm()
    # teachers are read without gradients: no value of theirs has to be kept, and values need no graph
    assert not surface._has_stops
    for key, value in learner.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_what_is_no_loss_about_a_point_is_refused_in_one_line():
    w = {"w": torch.ones(2)}
    noise = torch.Generator().manual_seed(0)
    cases = {
        "asked again": lambda: Surface(lambda at: at["w"].sum() + torch.rand((), generator=noise), w),
        "must be finite": lambda: Surface(lambda at: at["w"].sum() / 0, w),
        "must hold finite numbers": lambda: Surface(
            lambda at: at["w"].sum(), {"w": torch.tensor([torch.nan])}
        ),
        "leave it out": lambda: Surface(lambda at: at["w"].sum(), {**w, "v": torch.ones(1)}).gradient(),
        "no axis": lambda: Surface(lambda at: at["w"], w),
        "one precision": lambda: Surface(lambda at: at["w"].sum(), {**w, "v": torch.ones(1).double()}),
        "requires a gradient": lambda: module_surface(torch.nn.ReLU(), lambda module: torch.zeros(())),
        "must be a Tensor": lambda: Surface(lambda at: at["w"].sum(), w).value([1.0, 1.0]),
        "one for each parameter": lambda: Surface(lambda at: at["w"].sum(), w).value(torch.ones(3)),
    }
    for words, make in cases.items():
        with pytest.raises(ValueError, match=words) as caught:
            make()
        assert "\n" not in str(caught.value)


def test_a_module_is_left_as_it_was():
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    inputs, before = torch.randn(5, 2), {}
    before = {name: value.clone() for name, value in module.state_dict().items()}
    surface = module_surface(module, lambda each: each(inputs).pow(3).mean())
    surface.gradient(torch.ones(surface.dimension))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_module_that_changes_later_leaves_its_surface_as_it_was():
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    module[0].bias.requires_grad_(False)
    inputs = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    # the bias is seen past the norm that takes it out
    surface = module_surface(module, lambda each: (each(inputs) + each[0].bias).pow(3).mean())
    value = surface.value()
    module.eval()
    with torch.no_grad():
        for part in module.parameters():
            part.add_(1.0)
    assert surface.value() == value and not module.training


def test_a_module_that_torch_evaluates_otherwise_without_a_graph_has_a_surface():
    """Transformer layers take another path then, which rounds otherwise: that was taken for a draw."""
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in layer.parameters():
            part.copy_(torch.randn(part.shape, generator=generator) / 4)
    for _ in range(3):
        inputs = torch.randn(3, 5, 16, generator=generator)
        assert module_surface(layer, lambda each, x=inputs: each(x).pow(3).mean()).dimension > 0


@pytest.mark.parametrize(
    "stop", [lambda w: w.data, lambda w: torch.detach(w), lambda w: (w * 1).detach().mul_(1)]
)
def test_stopped_values_stay_however_they_are_stopped(stop):
    w = torch.tensor([1.0, 2.0])
    surface = Surface(lambda at: (at["w"] * stop(at["w"])).sum(), {"w": w})
    assert torch.equal(surface.gradient(torch.ones(2)), w)
    moving = Surface(surface.loss, {"w": w}, stopped="moving")
    assert torch.equal(moving.gradient(torch.ones(2)), 2 * (w + 1))


def test_stops_that_are_not_met_everywhere_are_refused():
    def loss(at):
        w = at["w"]
        return (w * w.detach()).sum() + ((w * w.square().detach()).sum() if w.sum() > 0 else 0)

    surface = Surface(loss, {"w": torch.ones(3)})
    with pytest.raises(ValueError, match="loss = '1 stop-gradients': must be met alike"):
        surface.value(-2 * torch.ones(3))
