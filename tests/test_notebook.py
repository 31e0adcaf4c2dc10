"""What a notebook shows: a kernel runs cells, and what it would draw below them is read. Exact."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

CELLS = {
    "experiment": """
        import vitdyn as vd
        layout = vd.PatchLayout.from_exponents(16, kappa_c=0.75, kappa_s=0.5)
        generator = vd.PatchGenerator(layout=layout)
        training = vd.Training(generator=generator, objective=vd.Contrastive(), steps=30, seeds=2)
        vd.Experiment(name="small", training=training)
    """,
    "trajectory": "trajectory = vd.simulate(training, runtime=vd.Runtime(progress=True)); trajectory",
    "picture": "vd.plot.summary_page(trajectory)",
    "verdicts": """
        from dataclasses import replace
        claim = next(claim for claim in vd.CLAIMS if claim.id == "MAE-PHASE-ONE")
        verdicts = vd.check([replace(claim, id="<b>", controls=lambda scale: ())], vd.run)
        verdicts
    """,
    "verdict": "verdicts[0]",
}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What each cell shows, by name: one dictionary of kinds to contents for each output."""
    from textwrap import dedent

    cells = [nbformat.v4.new_code_cell(dedent(source).strip()) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    place = {"metadata": {"path": str(tmp_path_factory.mktemp("notebook"))}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    outputs = [[dict(each.get("data", each)) for each in cell.outputs] for cell in notebook.cells]
    return dict(zip(CELLS, outputs, strict=True))


def test_an_experiment_is_a_table_of_what_was_chosen(shown):
    (output,) = shown["experiment"]
    page = output["text/html"]
    assert ">experiment small</caption>" in page
    assert re.search(r">steps</td><td[^>]*>30<", page) and "Contrastive(" in page
    assert re.search(r">as by default</td><td[^>]*>[^<]*batch_size", page)


def test_a_trajectory_is_its_dataset_below_how_it_was_made_and_progress_is_one_bar(shown):
    bar, output = shown["trajectory"]
    assert re.fullmatch(r'<progress value="60" max="60"></progress> 60 of 60 seed-steps .*', bar["text/html"])
    page = output["text/html"]
    assert ">trajectory</caption>" in page and ">Training<" in page
    assert "xr-wrap" in page and "own_area_attention" in page


def test_a_drawing_is_a_picture(shown):
    (output,) = shown["picture"]
    assert "image/png" in output


def test_verdicts_are_a_table_and_what_they_say_is_escaped(shown):
    (table,), (single,) = shown["verdicts"], shown["verdict"]
    assert "0 refuted" in table["text/html"] and table["text/html"].count("<tr>") == 3
    assert single["text/html"].count("<tr>") == 2
    assert all(
        "&lt;b&gt;" in each["text/html"] and "<b>" not in each["text/html"] for each in (table, single)
    )
