"""Trajectories on disk: nothing is lost, nothing is left half written, and what is no result file says so."""

import base64
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import netCDF4
import pytest
import xarray
from full_disk import largest_file

from vitdyn import _files
from vitdyn._files import require_writable, writable_beside
from vitdyn.data import Constant, PatchGenerator, PatchLayout
from vitdyn.dynamics import Schedule, Training, simulate
from vitdyn.objectives import MaskedReconstruction
from vitdyn.trajectory import SCHEMA, Trajectory


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
            batch_size=4,
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

    @pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
    def test_who_may_read_the_file_is_for_the_umask_to_say(self, mask, trajectory, path):
        before = os.umask(mask)
        try:
            assert trajectory.save(path).stat().st_mode & 0o777 == 0o666 & ~mask
        finally:
            os.umask(before)

    def test_a_disk_that_changes_no_permissions(self, trajectory, path, monkeypatch):
        """As CIFS and object stores do."""

        def refused(*_, **__):
            raise PermissionError(1, "Operation not permitted")

        for module, name in ((os, "chmod"), (os, "fchmod"), (Path, "chmod")):
            monkeypatch.setattr(module, name, refused)
        trajectory.save(path)
        assert Trajectory.load(path).dataset.identical(trajectory.dataset)

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
    def test_a_failed_save_leaves_the_old_file(self, trajectory, path, monkeypatch, complaint):
        trajectory.save(path)
        before = path.read_bytes()

        def half(self, part):
            self.file.write(part[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(_files._Summed, "write", half)
        with complaint("out", "cannot be written (No space left on device): make room"):
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


class TestDamage:
    """A file's checksum is compared before anything of it is parsed."""

    @pytest.fixture
    def whole(self, trajectory, path, monkeypatch):
        """What a good file holds; from here on nothing may be parsed."""

        def parsed(*_, **__):
            pytest.fail("the library's parser met damaged bytes")

        whole = trajectory.save(path).read_bytes()
        monkeypatch.setattr(netCDF4, "Dataset", parsed)
        return whole

    def test_one_bit_flipped_anywhere(self, whole, path, rng, complaint):
        """At 300 places of the contents, and everywhere in the checksum itself."""
        places = rng.integers(len(whole), size=300).tolist() + list(range(len(whole) - 90, len(whole)))
        for place in places:
            damaged = bytearray(whole)
            damaged[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged)
            with complaint("path", "delete it and run again"):
                Trajectory.load(path)

    @pytest.mark.parametrize("extra", [b"\0", b"\n", b"more"])
    def test_bytes_added_or_moved(self, extra, whole, path, complaint):
        for content in (whole + extra, extra + whole, whole[:500] + extra + whole[500:], whole[:-80] + extra):
            path.write_bytes(content)
            with complaint("path", "delete it and run again"):
                Trajectory.load(path)

    def test_a_copy_is_as_good(self, trajectory, path, tmp_path):
        trajectory.save(path)
        shutil.copyfile(path, tmp_path / "copy.nc")
        assert Trajectory.load(tmp_path / "copy.nc").dataset.identical(trajectory.dataset)

    def test_a_file_of_an_earlier_version(self, whole, path, complaint):
        """Schema "vitdyn trajectory 1" had no checksum."""
        path.write_bytes(whole[:-80])
        with complaint("path", "no checksum at its end: cut short, or not written by this version of vitdyn"):
            Trajectory.load(path)

    def test_the_line_at_the_end_harms_no_reader(self, trajectory, path):
        """Neither netCDF4 nor xarray, which guesses the format from the name or from the first bytes."""
        shutil.copy(trajectory.save(path), path.with_name("no_suffix"))
        with netCDF4.Dataset(path) as plain:
            assert plain.data_model == "NETCDF4" and plain["loss"][:].shape == (3, 2)
        for name in ("run.nc", "no_suffix"):
            with xarray.open_dataset(path.with_name(name)) as plain:
                assert plain.identical(trajectory.dataset)

    @pytest.mark.parametrize("name", ["step", "time", "seed"])
    def test_a_file_that_holds_no_trajectory(self, name, trajectory, path, complaint):
        Trajectory(trajectory.dataset.drop_vars(name)).save(path)
        with complaint("path", f"holds no trajectory: {name} missing"):
            Trajectory.load(path)

    @pytest.mark.parametrize("spec", [None, 3, "", "[]", "{"])
    def test_a_file_that_has_only_the_right_schema(self, spec, trajectory, path, complaint):
        about = {"schema": SCHEMA} if spec is None else {"schema": SCHEMA, "spec": spec}
        for dataset in (xarray.Dataset(), trajectory.dataset):
            Trajectory(dataset.drop_attrs().assign_attrs(about)).save(path)
            with complaint("path", "has no specification"):
                Trajectory.load(path)


class TestFullDisks:
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
    def test_nothing_is_left_and_one_line_is_said(self, share, trajectory, path, complaint):
        size = trajectory.save(path).stat().st_size
        path.unlink()
        with largest_file(int(share * size)), complaint("out", "make room, or name another folder"):
            trajectory.save(path)
        assert list(path.parent.iterdir()) == []

    def test_a_folder_in_the_place_of_the_file(self, trajectory, path, complaint):
        path.mkdir()
        for attempt in (require_writable, trajectory.save):
            with complaint("out", "is a folder, where a file is to be written"):
                attempt(path)
        assert list(path.parent.iterdir()) == [path] and not list(path.iterdir())


LEAVES = """
import os, sys, time
from pathlib import Path
from vitdyn._files import writable_beside
files = [writable_beside(Path(sys.argv[1]) / name) for name in sys.argv[2:]]
for file in files:
    file.__enter__()
print("ready", flush=True)
time.sleep(100)
"""


class TestLeftBehind:
    @pytest.fixture
    def writer(self, tmp_path):
        """A process in the middle of writing two files."""
        command = [sys.executable, "-c", LEAVES, str(tmp_path), "run.nc", "other.pt"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        yield process
        process.kill()
        process.communicate()

    def test_scratch_files_of_a_killed_process_are_cleared_and_those_of_a_live_one_are_not(
        self, writer, tmp_path
    ):
        mine = tmp_path / ".run.nc.notes.vitdyn"
        mine.write_text("of that name, and not ours")
        scratch = set(tmp_path.iterdir()) - {mine}
        require_writable(tmp_path / "third.nc")
        assert len(scratch) == 2 and set(tmp_path.iterdir()) == {mine, *scratch}
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        assert set(tmp_path.iterdir()) == {mine, *scratch}
        require_writable(tmp_path / "third.nc")
        assert set(tmp_path.iterdir()) == {mine}

    def test_a_disk_without_locks_keeps_what_may_be_in_use(self, writer, tmp_path, monkeypatch, trajectory):
        def unsupported(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(_files, "flock", unsupported)
        require_writable(tmp_path / "third.nc")
        trajectory.save(tmp_path / "third.nc")
        assert len(list(tmp_path.iterdir())) == 3


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
        Trajectory(dataset).save(path)
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
