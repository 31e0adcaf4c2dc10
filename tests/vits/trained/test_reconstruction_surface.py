"""The reconstruction loss alone at the weights that RC-MAE reached. Exact."""

from dataclasses import replace

import pytest

from vitdyn.observables.schedule import Schedule
from vitdyn.vits import Landscape, Pretraining, SmallViT, survey
from vitdyn.vits.methods import RCMAE, Contrast, Reconstruction

VIT = SmallViT(width=8, depth=1, heads=2, decoder_width=8, decoder_heads=2)


def surveyed(method, loss="pretraining"):
    training = Pretraining(method=method, vit=VIT, steps=3, batch_size=4)
    return Landscape(
        training=training, schedule=Schedule(frames=2), loss=loss, measures=("lines",), images=4, points=5
    )


@pytest.fixture(scope="module")
def reconstruction():
    return survey(surveyed(Reconstruction()))


def test_with_a_teacher_that_is_the_student_training_is_reconstructions(reconstruction):
    # at momentum 0 throughout the second term and its gradient are 0
    found = survey(surveyed(RCMAE(momentum=0.0, epoch_steps=1), "reconstruction"))
    assert found["training_loss"].equals(reconstruction["training_loss"])
    assert found["line_loss"].equals(reconstruction["line_loss"])


def test_the_teachers_term_is_left_out_and_nothing_else():
    method = RCMAE(momentum=0.9)
    own, alone = survey(surveyed(method)), survey(surveyed(method, "reconstruction"))
    assert own["training_loss"].equals(alone["training_loss"])
    assert (own["line_loss"] >= alone["line_loss"]).all()
    # before the first step the teacher is the student, and only the way from there is longer
    assert own["loss"][0] == alone["loss"][0]
    assert (own["line_loss"][0] > alone["line_loss"][0]).any()


def test_what_does_not_reconstruct_has_no_such_loss(complaint):
    with complaint("loss", "does not reconstruct"):
        surveyed(Contrast(), "reconstruction")
    with complaint("points", "must be odd"):
        replace(surveyed(Reconstruction()), points=6)
