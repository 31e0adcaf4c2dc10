"""How Sphinx builds these notes into pages: `make docs` writes them to theory_notes/_build/html."""

import os
import shutil
import sys
from pathlib import Path

import vitdyn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_sphinx"))
# the kernels that execute the tutorials: one thread each, and the package that these notes belong to
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])

project = "vitdyn"
author = "The vitdyn authors"
release = version = vitdyn.__version__
extensions = ["myst_nb", "formulas", "reference", "gallery", "links"]
exclude_patterns = ["_build", "_sphinx"]
language = "en"
smartquotes = False  # f'' is a formula

# the same files are read on GitHub: fences of formulas, and an anchor for each heading
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 120

autodoc_preserve_defaults = True  # as they are written
autodoc_typehints_format = "short"
maximum_signature_line_length = 72
add_module_names = False
toc_object_entries = False  # each page's tree of contents is built for every other page: a third of the time

html_theme = "furo"
html_title = "vitdyn"
html_math_renderer = "formulas"
html_static_path = ["_sphinx/pages.css"]
html_css_files = ["pages.css"]
html_show_sourcelink = html_show_copyright = False
html_copy_source = False


def setup(app):
    """Keep what a tutorial writes, its explorer, with the doctrees: a page that is as it was is not executed again."""
    os.environ["VITDYN_PAGES"] = str(app.doctreedir)
    app.connect("build-finished", _bring_explorer, priority=800)  # before links are followed


def _bring_explorer(app, error):
    if error is None and app.builder.format == "html":
        shutil.copy(Path(app.doctreedir, "tutorials", "explorer.html"), Path(app.outdir, "tutorials"))
