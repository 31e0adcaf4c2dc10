"""``import vitdyn as vd``: what it offers, what it loads, and that every example in it runs (exact)."""

import doctest
import subprocess
import sys
from graphlib import TopologicalSorter
from types import ModuleType

import grimp
import pytest

import vitdyn as vd
from vitdyn._lazy import lazily

WITHOUT_EXAMPLE = {"CLAIMS", "RECORD"}
"""Values have no docstring."""


def test_every_name_is_there_once_and_nothing_else_is():
    offered = set(lazily("vitdyn")[1]()) - set(vars(vd)) | {name for name in vd.__all__ if name in vars(vd)}
    assert offered - {"__version__"} == set(vd.__all__)
    assert set(vd.__all__) <= set(dir(vd))
    assert vd.plot.__name__ == "vitdyn.plotting"
    assert vd.PatchLayout.__module__.startswith("vitdyn.data")
    assert vd.__version__[0].isdigit()
    with pytest.raises(AttributeError, match="module 'vitdyn' has no attribute 'PatchLayuot'"):
        _ = vd.PatchLayuot


def test_importing_it_loads_no_library():
    script = "import sys, vitdyn; vitdyn.__all__; print({'torch', 'numpy', 'importlib.metadata'} & sys.modules.keys())"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.usefixtures("registering")
@pytest.mark.parametrize("name", ["vitdyn", *(name for name in vd.__all__ if name not in WITHOUT_EXAMPLE)])
def test_its_example_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    offered = vd if name == "vitdyn" else getattr(vd, name)
    text = offered.__doc__ or ""
    example = doctest.DocTestParser().get_doctest(text, {"vd": vd}, name, None, None)
    assert example.examples, "a docstring without an example"
    said: list[str] = []
    outcome = doctest.DocTestRunner(verbose=False).run(example, out=said.append)
    assert not outcome.failed, "".join(said)
    assert isinstance(offered, ModuleType) or name in text, "the example shows the name"


def test_no_module_imports_itself_by_way_of_others():
    graph = grimp.build_graph(
        "vitdyn", cache_dir=None
    )  # imports inside functions and for type checkers count
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the cycle
