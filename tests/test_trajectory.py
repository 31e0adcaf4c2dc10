"""Trajectories on disk: nothing is lost, nothing is left half written, and what is no result file says so."""

import base64
import re
import zlib
from pathlib import Path

import pytest
import xarray

from vitdyn.data import Constant, PatchGenerator, PatchLayout
from vitdyn.dynamics import Schedule, Training, simulate
from vitdyn.objectives import MaskedReconstruction
from vitdyn.trajectory import SCHEMA, Trajectory, writable_beside


@pytest.fixture(scope="module")
def trajectory():
    generator = PatchGenerator(
        layout=PatchLayout.from_sizes([[40, 30], [50, 10, 10]]), latents=Constant(value=1.5)
    )
    return simulate(
        Training(
            generator=generator,
            objective=MaskedReconstruction(),
            steps=6,
            samples=4,
            seeds=(7, 2),
            evaluation_samples=4,
            schedule=Schedule(spacing="linear", frames=3),
        )
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.nc"


class TestRoundTrip:
    def test_nothing_is_lost(self, trajectory, path):
        """Every value to the bit, types, labels and attributes; one variable is compressed."""
        assert trajectory["final_position_position"].size > 4096
        assert trajectory.save(path) == path
        back = Trajectory.load(path)
        assert back.dataset.identical(trajectory.dataset)
        assert back.spec == trajectory.spec
        for name, values in trajectory.dataset.variables.items():
            if name != "statistic":
                assert back[str(name)].dtype == values.dtype

    def test_xarray_alone_reads_it(self, trajectory, path):
        trajectory.save(path)
        with xarray.open_dataset(path) as plain:
            assert plain.identical(trajectory.dataset)
            assert plain["loss"].attrs["symbol"] == "L"
            assert plain["statistic"].to_numpy().tolist() == ["mean", "minimum", "maximum"]

    def test_what_the_attributes_say(self, trajectory, path):
        trajectory.save(str(path))
        attributes = Trajectory.load(str(path)).dataset.attrs
        assert attributes["schema"] == SCHEMA
        assert attributes["device"] == "CPU"
        assert 0 < attributes["seconds"] < 600
        for package in ("vitdyn", "torch", "numpy", "xarray"):
            assert re.search(rf"\b{package}=\d", attributes["versions"])
        training = trajectory.spec["training"]
        assert training["kind"] == "Training"
        assert training["seeds"] == [7, 2]
        assert training["generator"]["latents"] == {"kind": "Constant", "value": 1.5}

    def test_saving_again_replaces(self, trajectory, path):
        path.write_text("something old")
        trajectory.save(path)
        assert Trajectory.load(path).dataset.identical(trajectory.dataset)
        assert [file.name for file in path.parent.iterdir()] == ["run.nc"]

    def test_missing_folders_are_made(self, trajectory, tmp_path):
        assert trajectory.save(tmp_path / "a" / "b" / "run.nc").is_file()

    def test_the_file_can_be_read_by_others(self, trajectory, path):
        assert trajectory.save(path).stat().st_mode & 0o777 == 0o644

    def test_a_loaded_file_is_closed(self, trajectory, path):
        """Loaded, overwritten, and still whole in memory."""
        trajectory.save(path)
        back = Trajectory.load(path)
        path.write_bytes(b"gone")
        assert back.dataset.identical(trajectory.dataset)


class TestAccess:
    def test_the_last_frame(self, trajectory):
        assert int(trajectory.final["step"]) == 6
        assert trajectory.final["loss"].equals(trajectory["loss"].isel(frame=-1))

    def test_a_variable_by_name(self, trajectory):
        assert trajectory["loss"].dims == ("frame", "seed")
        assert trajectory["step"].to_numpy().tolist() == [0, 3, 6]

    def test_an_unknown_name_lists_the_known_ones(self, trajectory, complaint):
        with complaint("variable", "loss"):
            trajectory["accuracy"]


class TestHalfWritten:
    def test_a_failed_save_leaves_the_old_file(self, trajectory, path, monkeypatch):
        trajectory.save(path)
        before = path.read_bytes()

        def half(self, target, **_):
            Path(target).write_bytes(before[:100])
            raise OSError("disk full")

        monkeypatch.setattr(xarray.Dataset, "to_netcdf", half)
        with pytest.raises(OSError, match="disk full"):
            trajectory.save(path)
        assert path.read_bytes() == before
        assert [file.name for file in path.parent.iterdir()] == ["run.nc"]

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_a_scratch_file_vanishes_on_failure(self, error, path):
        path.write_text("old")
        with pytest.raises(error), writable_beside(path) as scratch:
            scratch.write_text("half")
            assert scratch.parent == path.parent
            assert path.read_text() == "old"
            raise error
        assert path.read_text() == "old"
        assert list(path.parent.iterdir()) == [path]

    def test_a_scratch_file_replaces_on_success(self, path):
        path.write_text("old")
        with writable_beside(path) as scratch:
            scratch.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"
        assert list(path.parent.iterdir()) == [path]


# what h5py writes of numbers = arange(3); netCDF4 writes no HDF5 file that is not netCDF4
PLAIN_HDF5 = (
    "c-rgqaB<`1lHy_j0S*oZ76t(ZWbhvfBsfs{F!=;1%?PDCp!5nRm^dR?P68?}2sIyFT}Y6tD@gT!Gyt>5fCWNxFpPqc2s~UJ13+{H"
    "ln+a#Czw#x<(1|pr4|*#)1wE4_A)ZCLd;@>@gXUhkr5)m3{{7q1;9!LIACej0Zg(2c_48nCMHHmI)<3T%m_=;5@<G07?kl4?C0+S"
    "%F(cVsK7j$Hb=oI80r94Uc!n~0PespsQ"
)


class TestComplaints:
    @pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
    def test_a_truncated_file(self, share, trajectory, path, complaint):
        whole = trajectory.save(path).read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        with complaint("path", "delete it and run again"):
            Trajectory.load(path)

    def test_a_file_of_something_else(self, path, complaint):
        path.write_text("step,loss\n0,1.5\n")
        with complaint("path", "not a readable result file"):
            Trajectory.load(path)

    @pytest.mark.parametrize("schema", [None, "vitdyn trajectory 0", 1])
    def test_another_schema(self, schema, trajectory, path, complaint):
        dataset = trajectory.dataset.copy()
        dataset.attrs = {} if schema is None else dataset.attrs | {"schema": schema}
        dataset.to_netcdf(path, engine="netcdf4")
        with complaint("schema", f"reads '{SCHEMA}'"):
            Trajectory.load(path)

    def test_a_plain_hdf5_file(self, path):
        path.write_bytes(zlib.decompress(base64.b85decode(PLAIN_HDF5)))
        with pytest.raises(
            ValueError, match=r"\A[^\n]*(not a readable result file|not written by this version)"
        ):
            Trajectory.load(path)

    @pytest.mark.parametrize("missing", ["nothing.nc", "."])
    def test_a_missing_file(self, missing, tmp_path, complaint):
        with complaint("path", "no such result file"):
            Trajectory.load(tmp_path / missing)

    def test_a_folder_that_is_a_file(self, trajectory, tmp_path, complaint):
        (tmp_path / "results").write_text("in the way")
        for name in ("run.nc", "deeper/run.nc"):
            with complaint("out", "name another folder"):
                trajectory.save(tmp_path / "results" / name)
        assert (tmp_path / "results").read_text() == "in the way"
