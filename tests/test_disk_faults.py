"""Commands on disks that are full, and with folders where files are meant: one line, nothing half written (exact)."""

import pytest
from full_disk import largest_file

from vitdyn import cli
from vitdyn.dynamics.checkpoint import Checkpointer
from vitdyn.dynamics.steppers import EagerStepper
from vitdyn.trajectory import Trajectory

RUN = [
    "run",
    "mae",
    "--patches",
    "64",
    "--kappa-c",
    "0.7",
    "--batch-size",
    "8",
    "--seeds",
    "2",
    "--steps",
    "4",
]
FLOW = ["flow", "mae", "--patches", "1e5", "--frames", "12"]


@pytest.fixture
def refused(capsys):
    """Carry out a command that must end with one line and not with success; return that line."""

    def carry_out(arguments, size=None):
        capsys.readouterr()
        with largest_file(size if size is not None else 10**9):
            status = cli.main(arguments)
        lines = [line for line in capsys.readouterr().err.splitlines() if "seed-step" not in line]
        assert status in (1, 2) and len(lines) == 1, lines
        return lines[0]

    return carry_out


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What a run and a flow write where there is room, by the name of their command and the kind of file."""
    made = {}
    for command in (RUN, FLOW):
        folder = tmp_path_factory.mktemp(command[0])
        assert cli.main([*command, "--out", str(folder)]) == 0
        made[command[0]] = {path.suffix: path for path in folder.iterdir()}
    return made


def kinds(folder):
    return sorted(path.suffix for path in folder.iterdir())


def test_a_result_does_not_fit(refused, whole, tmp_path):
    """What was trained is kept: the same command ends at once when there is room."""
    out = ["--out", str(tmp_path)]
    result = whole["run"][".nc"]
    size, expected = result.stat().st_size, Trajectory.load(result).dataset.drop_attrs()
    with pytest.MonkeyPatch.context() as patch:  # the checkpoint is larger than the result: let it find room
        deposit = Checkpointer.save

        def with_room(*given):
            with largest_file(10**9):
                deposit(*given)

        patch.setattr(Checkpointer, "save", with_room)
        line = refused([*RUN, *out], size // 2)
    assert "cannot be written (File too large): make room, or name another folder" in line
    assert kinds(tmp_path) == [".checkpoint"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EagerStepper, "advance", lambda *_: pytest.fail("trained again"))
        patch.setattr("vitdyn.experiments.cost.estimate_cost", lambda *_, **__: NOTHING)
        assert cli.main([*RUN, *out]) == 0
    (result,) = tmp_path.glob("*.nc")
    assert Trajectory.load(result).dataset.drop_attrs().identical(expected)


class NOTHING:
    seconds = mebibytes = 0.0


def test_a_checkpoint_does_not_fit(refused, tmp_path):
    assert "cannot be written" in refused([*RUN, "--out", str(tmp_path)], 1000)
    assert kinds(tmp_path) == []


@pytest.mark.parametrize("command", [RUN, FLOW], ids=["run", "flow"])
def test_a_picture_does_not_fit(command, refused, whole, tmp_path):
    """The result is there; of the picture no part is."""
    size = whole[command[0]][".pdf"].stat().st_size
    assert sorted(whole[command[0]]) == [".csv", ".nc", ".pdf", ".png"]
    with pytest.MonkeyPatch.context() as patch:
        save = Trajectory.save

        def with_room(*given):
            with largest_file(10**9):
                return save(*given)

        patch.setattr(Trajectory, "save", with_room)
        patch.setattr(Checkpointer, "save", _with_room(Checkpointer.save))
        line = refused([*command, "--out", str(tmp_path)], size // 2)
    assert ".pdf" in line and "cannot be written" in line
    assert kinds(tmp_path) == [".nc"]


def _with_room(function):
    def inside(*given):
        with largest_file(10**9):
            return function(*given)

    return inside


def test_a_flow_does_not_fit(refused, tmp_path):
    assert "cannot be written" in refused([*FLOW, "--out", str(tmp_path)], 500)
    assert kinds(tmp_path) == []


@pytest.mark.parametrize("command", [RUN, FLOW], ids=["run", "flow"])
@pytest.mark.parametrize("kind", [".nc", ".pdf", ".png", ".csv"])
def test_a_folder_where_a_file_is_meant_is_refused_before_the_work(
    command, kind, refused, whole, tmp_path, monkeypatch
):
    path = tmp_path / whole[command[0]][kind].name
    path.mkdir()
    monkeypatch.setattr("vitdyn.experiments.run", lambda *_, **__: pytest.fail("worked"))
    assert "is a folder, where a file is to be written" in refused([*command, "--out", str(tmp_path)])
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_checkpoint_is_refused_and_left_on_request(refused, whole, tmp_path):
    checkpoint = tmp_path / f"{whole['run']['.nc'].name}.checkpoint"
    checkpoint.write_bytes(b"damaged")
    line = refused([*RUN, "--out", str(tmp_path)])
    assert str(checkpoint) in line and "--anew" in line
    assert cli.main([*RUN, "--out", str(tmp_path), "--anew"]) == 0
    assert not checkpoint.exists()


def test_a_run_without_its_final_state_is_drawn(tmp_path):
    assert cli.main([*RUN, "--out", str(tmp_path), "--no-keep-final-state"]) == 0
    (result,) = tmp_path.glob("*.nc")
    assert not [name for name in Trajectory.load(result).dataset if str(name).startswith("final_")]
