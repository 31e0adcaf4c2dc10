"""Compiled code that is kept on disk: damaged it is compiled again; where it cannot be kept, work goes on. Exact."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from numba.core import caching

from vitdyn import _compiler
from vitdyn._scratch import scratch_folder

ROOT = Path(__file__).parents[1]


def twice(value):
    return 2 * value


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Compile ``twice`` as a new process would, with its code kept in a folder of the test's own."""
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_compiler, "_said", set())

    def compile_anew():
        made = _compiler.compiled()(twice)
        return made, made(21)

    return compile_anew


def files(tmp_path, kind):
    return sorted(tmp_path.rglob(f"*.{kind}"))


def test_code_is_kept_and_found(kept, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first, value = kept()
        assert value == 42 and sum(first.stats.cache_misses.values()) == 1
        second, value = kept()
    assert value == 42 and sum(second.stats.cache_hits.values()) == 1
    assert all(
        _compiler._SEAL in path.read_bytes() for path in (*files(tmp_path, "nbi"), *files(tmp_path, "nbc"))
    )


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :]


@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize(
    "damage", [lambda data: b"", lambda data: data[: len(data) // 2], lambda data: b"?" * 99, flip]
)
def test_damaged_code_is_compiled_again_with_one_word(kept, tmp_path, kind, damage):
    kept()
    (path,) = files(tmp_path, kind)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(RuntimeWarning, match="is damaged and is compiled again") as told:
        made, value = kept()
    assert value == 42 and not made.stats.cache_hits
    assert len(told) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made, value = kept()
    assert value == 42 and sum(made.stats.cache_hits.values()) == 1


def test_code_that_numba_kept_itself_is_taken(kept, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(_compiler._Summed, "_dump", lambda self, obj: super(_compiler._Summed, self)._dump(obj))
        kept()
    assert _compiler._SEAL not in files(tmp_path, "nbc")[0].read_bytes()
    made, _ = kept()
    assert sum(made.stats.cache_hits.values()) == 1


def test_a_full_disk_costs_a_word_and_no_result(kept, monkeypatch):
    def full(self, name, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_compiler._Summed, "_save_data", full)
    with pytest.warns(RuntimeWarning, match=r"cannot be kept .*No space left.*NUMBA_CACHE_DIR") as told:
        assert kept()[1] == 42
        assert kept()[1] == 42
    assert len(told) == 1


def test_env_names_the_engine_and_says_when_the_compiled_one_is_dropped(tmp_path):
    """No folder can be written: the package's, HOME's and the named one are none."""
    script = (
        "import numba.core.caching as c\n"
        "def refuse(self): raise OSError('read-only')\n"
        "for kind in [each for each in vars(c).values() if hasattr(each, 'ensure_cache_path')]:\n"
        "    kind.ensure_cache_path = refuse\n"
        "from vitdyn.cli import main; raise SystemExit(main(['env', '--probe']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "engine      plain torch" in done.stdout
    assert done.stderr.startswith("vitdyn: plain torch computes attention")
    assert done.stderr.count("\n") == 1
    assert "NUMBA_CACHE_DIR" in done.stderr


def test_where_numba_can_write_nowhere_code_is_kept_in_a_temporary_folder(kept, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("numba.config.CACHE_DIR", "")
    places = [kind for kind in vars(caching).values() if hasattr(kind, "ensure_cache_path")]
    for place, ensure in [(place, place.ensure_cache_path) for place in places]:

        def only_below(self, ensure=ensure):
            if not self.get_cache_path().startswith(str(tmp_path)):
                raise PermissionError("read-only")
            ensure(self)

        monkeypatch.setattr(place, "ensure_cache_path", only_below)
    kept()
    (folder,) = tmp_path.glob("vitdyn-*/numba")
    assert files(folder, "nbc") and not folder.parent.stat().st_mode & 0o077
    made, _ = kept()
    assert sum(made.stats.cache_hits.values()) == 1


def test_a_temporary_folder_that_others_can_write_is_not_taken(tmp_path, monkeypatch):
    """What lies there is run: somebody else could have put it there."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = scratch_folder()
    assert folder.parent == tmp_path and folder == scratch_folder()
    folder.chmod(0o777)
    assert scratch_folder() is None
    folder.rmdir()
    (tmp_path / "elsewhere").mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    assert scratch_folder() is None
    monkeypatch.setattr("os.getuid", lambda: 4711)
    assert scratch_folder() is None


def test_without_a_folder_what_needs_none_is_compiled_in_each_process(monkeypatch):
    def no_folder(function):
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(_compiler, "_Cautious", no_folder)
    made = _compiler.compiled(needs_folder=False)(twice)
    assert made(21) == 42 and made.nopython_signatures
    with pytest.raises(RuntimeError, match="no locator"):
        _compiler.compiled()(twice)
