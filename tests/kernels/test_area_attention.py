"""Area attention against the dense model in R^d (exact: float64 round-off, unless a tolerance is named)."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitdyn.data import Constant, PatchBatch, PatchGenerator, PatchLayout
from vitdyn.dynamics import loss_gradient
from vitdyn.dynamics.gradient import Workspaces, forward_pass
from vitdyn.kernels import Correlations, autograd_path, factored, torch_backend
from vitdyn.kernels.workspace import Workspace
from vitdyn.models import area_attention, dense_area_attention, mean_area_attention
from vitdyn.models.reference import attend, dense_attention
from vitdyn.objectives import Contrastive, MaskedReconstruction

TWENTY = pytest.mark.parametrize("case", range(20))
CONTENT = pytest.mark.parametrize("content", [False, True], ids=["positions", "content"])
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")


@pytest.fixture(autouse=True, params=["compiled", "torch"])
def backend(request, monkeypatch):
    """Every test runs with the compiled kernels of the CPU and with plain torch.

    Content queries, which none of them takes, form maps with the one and go through areas with the other.
    """
    if request.param == "torch":
        monkeypatch.setattr("vitdyn.kernels.plan._backend", lambda device: torch_backend)
        monkeypatch.setattr(autograd_path, "FULL_MAPS", 0)
    else:
        pytest.importorskip("numba")


def leaves_of(correlations):
    return correlations.map(lambda block: block.clone().requires_grad_())


def dense_area(problem, matrix, view=0):
    patches, visible, basis = problem.batch.patches(problem.basis), problem.views[view], problem.basis
    content = problem.correlations.content_queries
    attention = dense_attention(matrix, patches, visible, basis, content_queries=content)
    return dense_area_attention(attention, problem.batch, visible)


def contrastive(rng):
    return Contrastive(temperature=float(rng.uniform(0.2, 2.0)), weight_decay=float(rng.uniform(0.01, 1.0)))


@TWENTY
@CONTENT
def test_equals_the_dense_model(case, content, make_problem, close):
    problem = make_problem(content=content)
    matrix = problem.correlations.to_matrix(problem.basis)
    for view in (0, 1):
        attention = area_attention(problem.correlations, *problem.arguments(view))
        close(attention, dense_area(problem, matrix, view), 1e-12)
        assert torch.equal(problem.forward().attention[view], attention)


@TWENTY
@CONTENT
@pytest.mark.parametrize("asked", [False, True], ids=["plain", "gradient"])
def test_the_mean_over_queries(case, content, asked, make_problem, close):
    problem = make_problem(content=content)
    model = problem.correlations.map(lambda block: block.clone().requires_grad_(asked))
    found = mean_area_attention(model, *problem.arguments(0))
    attention = area_attention(model, *problem.arguments(0))
    close(found.detach(), attention.detach().mean(-1), 1e-12)
    assert found.requires_grad == asked
    if asked:
        blocks = list(model.named().values())
        close(
            Correlations(*torch.autograd.grad(found.square().sum(), blocks)),
            Correlations(*torch.autograd.grad(attention.mean(-1).square().sum(), blocks)),
            1e-12,
        )


def test_the_problems_meet_every_kind_of_sample(make_problem):
    """The twenty problems are only as good as what they contain."""
    seen = {"full": 0, "single": 0, "lost area": 0, "careful": 0, "moderate": 0, "missing area": 0}
    clusters = set()
    for _ in range(100):
        problem = make_problem()
        layout, visible = problem.batch.layout, problem.views[0]
        assert layout.patches & (layout.patches - 1)
        clusters.add(layout.clusters)
        shown, there = problem.batch.visible_count(visible), problem.batch.membership.sum(-1)
        moderate = float(problem.correlations.position_position.abs().max()) < 2
        few_masked = float(visible.double().mean(-1).max()) > 0.9
        seen["full"] += int(visible.all(-1).sum())
        seen["single"] += int((visible.sum(-1) == 1).sum())
        seen["lost area"] += int(((shown == 0) & (there > 0)).sum())
        seen["careful"] += not moderate
        seen["moderate"] += moderate and not few_masked
        seen["missing area"] += int((layout.sizes == 0).sum())
    assert clusters == {1, 2, 3}
    assert min(seen.values()) >= 5


class TestGradients:
    """Gradients of both objectives equal autograd through the dense model, read back in the basis."""

    def check(self, problem, objective, dense_model, close):
        content = problem.correlations.content_queries
        matrix = problem.correlations.to_matrix(problem.basis).requires_grad_()
        losses = dense_model(problem, content=content).loss(objective, matrix)
        (dense,) = torch.autograd.grad(losses.sum(), matrix)
        expected = Correlations.from_matrix(dense, problem.basis, content_queries=content)
        views = problem.views[: 1 if objective.name == "mae" else 2]
        gradient, forward = loss_gradient(problem.correlations, objective, problem.batch, views, {})
        close(gradient, expected)
        penalty = 0.5 * objective.weight_decay * problem.correlations.squared_norm()
        close(objective.loss(forward) + penalty, losses.detach(), 1e-12)
        return gradient, dense

    @TWENTY
    def test_masked_reconstruction(self, case, make_problem, dense_model, close):
        self.check(make_problem(), MaskedReconstruction(), dense_model, close)

    @TWENTY
    @pytest.mark.parametrize("complementary", [False, True], ids=["independent", "complementary"])
    def test_contrastive(self, case, complementary, rng, make_problem, dense_model, close):
        self.check(make_problem(complementary=complementary), contrastive(rng), dense_model, close)

    @TWENTY
    def test_contrastive_with_content_queries(self, case, rng, make_problem, dense_model, close):
        problem = make_problem(content=True)
        gradient, _ = self.check(problem, contrastive(rng), dense_model, close)
        assert all(float(block.abs().max()) > 0 for block in gradient.named().values())

    @TWENTY
    def test_masked_reconstruction_moves_no_content_block(self, case, make_problem, dense_model, close):
        problem = make_problem(content=True)
        gradient, dense = self.check(problem, MaskedReconstruction(), dense_model, close)
        assert not gradient.content_position.any()
        assert not gradient.content_content.any()
        close(gradient.to_matrix(problem.basis), dense)

    def test_every_seed_by_itself(self, make_problem, close):
        problem = make_problem(seeds=3, clusters=2)
        gradient, _ = loss_gradient(
            problem.correlations, Contrastive(weight_decay=0.1), problem.batch, problem.views, {}
        )
        for seed in range(3):
            one = slice(seed, seed + 1)
            batch = PatchBatch(
                problem.batch.layout, (seed,), problem.batch.cluster[one], problem.batch.latents[one]
            )
            alone, _ = loss_gradient(
                problem.correlations.map(lambda block, one=one: block[one]),
                Contrastive(weight_decay=0.1),
                batch,
                tuple(view[one] for view in problem.views),
                {},
            )
            close(alone, gradient.map(lambda block, one=one: block[one]), 1e-12)


class TestAutograd:
    @pytest.fixture(params=range(6))
    def problem(self, request, make_problem):
        return make_problem(content=request.param % 3 == 2)

    def weights(self, rng, problem):
        shape = (*problem.batch.latents.shape, problem.batch.layout.patches)
        return torch.from_numpy(rng.standard_normal(shape))

    def test_second_derivatives(self, problem, rng, close):
        """The Hessian times a direction, of a quadratic function of area attention."""
        blocks = leaves_of(problem.correlations)
        names = list(blocks.named())
        weights, basis = self.weights(rng, problem), problem.basis
        direction = blocks.map(lambda block: torch.from_numpy(rng.standard_normal(block.shape)))
        matrix = problem.correlations.to_matrix(basis).requires_grad_()

        def product(attention, inputs, direction):
            value = (weights * attention.square()).sum()
            first = torch.autograd.grad(value, inputs, create_graph=True)
            along = sum((one * other).sum() for one, other in zip(first, direction, strict=True))
            return torch.autograd.grad(along, inputs)

        attention = area_attention(blocks, *problem.arguments())
        found = product(attention, list(blocks.named().values()), list(direction.named().values()))
        (dense,) = product(dense_area(problem, matrix), [matrix], [direction.to_matrix(basis)])
        content = blocks.content_queries
        expected = Correlations.from_matrix(dense, basis, content_queries=content)
        close(Correlations(**dict(zip(names, found, strict=True))), expected)

    def test_a_retained_graph_gives_the_same_numbers(self, problem, rng):
        blocks = leaves_of(problem.correlations)
        inputs = list(blocks.named().values())
        value = (self.weights(rng, problem) * area_attention(blocks, *problem.arguments())).sum()
        first, second = (torch.autograd.grad(value, inputs, retain_graph=True) for _ in range(2))
        assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))
        assert all(block.any() for block in first)

    def test_the_closed_form_equals_the_differentiable_composition(self, problem, rng, close):
        """First derivatives with and without a graph of their own go by different code."""
        blocks = leaves_of(problem.correlations)
        inputs = list(blocks.named().values())
        value = (self.weights(rng, problem) * area_attention(blocks, *problem.arguments())).sum()
        for live, plain in zip(
            torch.autograd.grad(value, inputs, create_graph=True),
            torch.autograd.grad(value, inputs),
            strict=True,
        ):
            close(live.detach(), plain)

    @pytest.mark.parametrize("name", ["feature_position", "position_position"])
    def test_one_block_alone_can_be_differentiated_twice(self, name, rng, make_problem, close):
        problem = make_problem(scale=0.3)
        weights, blocks = self.weights(rng, problem), problem.correlations.named()

        def second(trained):
            block = blocks[name].clone().requires_grad_()
            others = {key: leaf.clone().requires_grad_(trained) for key, leaf in blocks.items()}
            attention = area_attention(Correlations(**others | {name: block}), *problem.arguments())
            (first,) = torch.autograd.grad((weights * attention).sum(), block, create_graph=True)
            return torch.autograd.grad(first.square().sum(), block)[0]

        close(second(trained=False), second(trained=True))

    def test_blocks_that_depend_on_each_other(self, rng, make_problem, close):
        """Υ made from Φ: each path counts once, in the first derivative as in the second."""
        problem = make_problem(clusters=1)
        weights, phi = self.weights(rng, problem), problem.correlations.feature_position.requires_grad_()
        patches = problem.batch.layout.patches
        mix = torch.from_numpy(rng.standard_normal((problem.batch.layout.areas, patches)))
        value = (weights * area_attention(Correlations(phi, phi[:, :, 0] @ mix), *problem.arguments())).sum()
        (plain,) = torch.autograd.grad(value, phi, retain_graph=True)
        (live,) = torch.autograd.grad(value, phi, create_graph=True)
        close(live.detach(), plain)

    @CONTENT
    def test_the_latents_can_be_differentiated_too(self, content, rng, make_problem, close):
        problem = make_problem(content=content)
        weights, batch = self.weights(rng, problem), problem.batch
        latents = batch.latents.clone().requires_grad_()
        lent = replace(batch, latents=latents)
        attention = area_attention(problem.correlations, lent, problem.views[0])
        (found,) = torch.autograd.grad((weights * attention).sum(), latents)
        problem.batch = PatchBatch(batch.layout, batch.seeds, batch.cluster, latents)
        dense = dense_area(problem, problem.correlations.to_matrix(problem.basis))
        (expected,) = torch.autograd.grad((weights * dense).sum(), latents)
        close(found, expected)

    def test_a_result_that_is_dropped_frees_its_arrays(self, make_problem):
        problem = make_problem(clusters=1)
        attention = area_attention(leaves_of(problem.correlations), *problem.arguments())
        kept = weakref.ref(attention)
        del attention
        gc.collect()
        assert kept() is None


def single(in_double):
    """Round to float32, and give back both the float32 problem and the same numbers in float64."""
    return in_double.float(), in_double.float().double()


class TestExtremes:
    """float32 at large correlations: finite, and within 1e-5 of float64 at the same inputs.

    The gradient of Υ is a difference of sums as large as e^spread, which costs it digits: 1e-4 while Υ is
    spread over 10 or less, 0.1 over 40 (0.01 measured).
    """

    @pytest.mark.parametrize("case", range(10))
    @pytest.mark.parametrize("reach", [0.5, 9.0, 60.0, 200.0])
    @pytest.mark.parametrize("spread", [0.5, 2.9, 10.0, 40.0])
    def test_float32_follows_float64(self, case, reach, spread, rng, make_problem):
        problem = make_problem(scale=1.0)
        phi = problem.correlations.feature_position
        phi = phi.sign() * reach if case % 2 else reach * torch.from_numpy(rng.uniform(-1, 1, phi.shape))
        upsilon = torch.from_numpy(rng.uniform(0, spread, problem.correlations.position_position.shape))
        latents = torch.ones_like(problem.batch.latents) if case % 3 else problem.batch.latents
        narrow, wide = zip(*(single(part) for part in (phi, upsilon, latents)), strict=True)
        results = []
        for phi, upsilon, latents in (narrow, wide):
            leaves = leaves_of(Correlations(phi, upsilon))
            batch = replace(problem.batch, latents=latents)
            attention = area_attention(leaves, batch, problem.views[0])
            weight = (torch.arange(attention.numel()) % 7).reshape(attention.shape) / 7
            value = (weight * attention).sum() / problem.batch.count
            gradient = torch.autograd.grad(value, list(leaves.named().values()))
            results.append((attention.detach(), *gradient))
        within = (1e-5, 1e-5, 1e-4 if spread <= 10 else 0.1)
        for float32, float64, bound in zip(*results, within, strict=True):
            assert float32.isfinite().all()
            assert float((float32 - float64).abs().max()) <= bound * max(1.0, float(latents.max()))

    @pytest.mark.parametrize("sign", [1.0, -1.0])
    @CONTENT
    def test_an_area_without_a_visible_patch_gets_nothing(self, sign, content):
        """Attention to it is 0 and its correlation gets no gradient, however large that is."""
        layout = PatchLayout(partition=((0, 0, 1, 1, 1),))
        batch = PatchGenerator(layout=layout, latents=Constant()).sample(1, [0], dtype=torch.float32)
        zeros = Correlations.zeros(layout, 1, content_queries=content, dtype=torch.float32)
        zeros.feature_position[..., 0] = sign * 200
        leaves = leaves_of(zeros)
        visible = torch.tensor([[[False, False, True, True, False]]])
        attention = area_attention(leaves, batch, visible)
        gradient = torch.autograd.grad(attention[:, :, 1].sum(), leaves.feature_position)[0]
        assert torch.equal(attention[0, 0, 0], torch.zeros(5))
        torch.testing.assert_close(attention[0, 0, 1], torch.full((5,), 0.4), rtol=1e-6, atol=0)
        assert not gradient[..., 0].any()
        torch.testing.assert_close(gradient[0, :, 0, 1], torch.full((5,), 0.24), rtol=1e-5, atol=0)

    @pytest.mark.parametrize("masked", [0, 1])
    def test_what_is_left_to_few_masked_patches_keeps_its_digits(self, masked, rng):
        """With Φ = −9 all visible patches together weigh less than a masked one, and than a lost digit of one."""
        layout = PatchLayout.from_sizes([400, 100])
        batch = PatchGenerator(layout=layout, latents=Constant()).sample(1, [0])
        visible = torch.arange(500).expand(1, 1, 500) >= masked
        upsilon = torch.from_numpy(rng.uniform(-0.5, 0.5, (1, 500, 500)).astype(np.float32))
        phi = torch.full((1, 500, 1, 2), -9.0)
        narrow, wide = (
            area_attention(
                Correlations(phi, upsilon).map(cast), replace(batch, latents=cast(batch.latents)), visible
            )
            for cast in (torch.Tensor.float, torch.Tensor.double)
        )
        assert float((narrow - wide).abs().max()) <= 1e-5
        assert (wide.sum(2) > 0.99).all() == (masked == 0)

    def test_a_wholly_hidden_image_gets_no_attention(self, make_problem):
        problem = make_problem(scale=3.0)
        hidden = torch.zeros_like(problem.views[0])
        assert not area_attention(problem.correlations, problem.batch, hidden).any()


class TestWorkspace:
    def test_reuse_does_not_change_results(self, rng, make_problem):
        """One workspace through batches of other sizes, other clusters and both branches of the forward."""
        shared = Workspace()
        for count in (4, 6, 4, 5, 4, 4):
            problem = make_problem(samples=count)
            adjoint = torch.from_numpy(rng.standard_normal((1, 1, problem.batch.layout.areas, 1)))
            adjoint = adjoint.expand(*problem.batch.latents.shape, 1)
            results = []
            for workspace in (None, shared):
                attention, saved = factored.forward(problem.correlations, *problem.arguments(), workspace)
                kept = attention.clone()
                gradient = factored.backward(saved, adjoint)
                assert torch.equal(attention, kept)
                results.append((kept, *gradient.named().values()))
            assert all(torch.equal(*pair) for pair in zip(*results, strict=True))

    def test_reuse_across_steps_of_training(self, make_problem):
        """Evaluation batches of another size between two steps leave no trace."""
        problem, other = make_problem(clusters=2, samples=5), make_problem(clusters=3, samples=4)
        objective, shared = Contrastive(weight_decay=0.1), Workspaces()
        arguments = (problem.correlations, objective, problem.batch, problem.views, {})
        expected = loss_gradient(*arguments)[0].map(torch.clone)
        for _ in range(2):
            forward_pass(other.correlations, other.batch, other.views, {}, shared)
            gradient = loss_gradient(*arguments, shared)[0]
            assert all(torch.equal(gradient.named()[name], block) for name, block in expected.named().items())


class TestAttend:
    @TWENTY
    @CONTENT
    def test_equals_the_dense_model(self, case, content, make_problem, close):
        problem = make_problem(content=content)
        matrix = problem.correlations.to_matrix(problem.basis)
        maps = attend(problem.correlations, problem.batch, problem.views[0])
        patches = problem.batch.patches(problem.basis)
        dense = dense_attention(matrix, patches, problem.views[0], problem.basis, content_queries=content)
        close(maps, dense, 1e-12)
        close(maps.sum(-1), torch.ones(maps.shape[:-1], dtype=maps.dtype), 1e-12)


@pytest.mark.parametrize(
    "field",
    ["correlations.feature_position", "correlations.position_position", "latents", "visible"],
)
def test_shapes_that_do_not_fit_are_named(field, make_problem, complaint):
    problem = make_problem()
    blocks = problem.correlations.named() | {"latents": problem.batch.latents, "visible": problem.views[0]}
    name = field.removeprefix("correlations.")
    blocks[name] = torch.cat([blocks[name], blocks[name][..., :1]], -1)
    model = Correlations(blocks["feature_position"], blocks["position_position"])
    for function in (area_attention, mean_area_attention):
        with complaint(f"{field}.shape", "for this layout and batch"):
            function(model, replace(problem.batch, latents=blocks["latents"]), blocks["visible"])


@needs_cuda
@CONTENT
def test_cuda_equals_the_cpu(content, make_problem, close):
    for _ in range(5):
        problem = make_problem(content=content)
        objective = Contrastive(weight_decay=0.1)
        expected, forward = loss_gradient(problem.correlations, objective, problem.batch, problem.views, {})
        batch = PatchBatch(
            problem.batch.layout,
            problem.batch.seeds,
            problem.batch.cluster.cuda(),
            problem.batch.latents.cuda(),
        )
        views = tuple(view.cuda() for view in problem.views)
        found, moved = loss_gradient(problem.correlations.map(torch.Tensor.cuda), objective, batch, views, {})
        close(found.map(torch.Tensor.cpu), expected, 1e-5)
        close(moved.attention[0].cpu(), forward.attention[0], 1e-5)


class TestBadBatches:
    """What is not finite gives NaN where it is met, and only there; what is no batch of the layout is refused."""

    @CONTENT
    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("function", [area_attention, mean_area_attention])
    def test_not_finite_is_nan(self, function, dtype, bad, content, make_problem):
        problem = make_problem(content=content, seeds=2, samples=4, scale=0.3)
        batch, view = problem.arguments()
        for place in ("feature_position", "position_position", "latents"):
            blocks = {name: part.to(dtype, copy=True) for name, part in problem.correlations.named().items()}
            given = {"latents": batch.latents.to(dtype, copy=True), **blocks}
            lent = replace(batch, latents=given["latents"])
            right = function(Correlations(**blocks), lent, view).clone()
            given[place][1, 2, ..., 0] = bad
            found = function(Correlations(**blocks), lent, view)
            expected = torch.zeros_like(found, dtype=torch.bool)
            if place == "latents":
                expected[1, 2] = True
            elif function is area_attention:
                expected[1, :, :, 2] = True
            else:
                expected[1] = True
            assert torch.equal(found.isnan(), expected)
            tolerance = 1e-5 if dtype == torch.float32 else 1e-12
            torch.testing.assert_close(found[~expected], right[~expected], rtol=0, atol=tolerance)

    def test_clusters_and_views_that_are_none(self, make_problem, complaint):
        """Clusters beyond the layout's were read from memory that is nobody's."""
        problem = make_problem(clusters=2)
        batch, visible = problem.arguments()
        model, cluster = problem.correlations, batch.cluster
        for function in (area_attention, mean_area_attention):
            for bad in (cluster - 2, cluster + 2, cluster * 1000 + 7, cluster.double()):
                with complaint("cluster", "must be"):
                    function(model, replace(batch, cluster=bad), visible)
            for bad in (visible * 0.5, visible * 2, visible * float("nan")):
                with complaint("visible", "true or false"):
                    function(model, batch, bad)
            with complaint("latents", "3 axes"):
                function(model, replace(batch, latents=batch.latents[0]), visible)
            with complaint("correlations", "must be a "):
                function(None, batch, visible)
