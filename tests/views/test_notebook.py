"""A notebook, run by a kernel of its own: the bar moves in one output, and results are tables."""

import pytest

pytestmark = pytest.mark.slow

CELLS = (
    "import jax, jax.numpy as jnp, jxai\n"
    "from jxai.attribution import gradient\n"
    "from jxai.bounds import certify\n"
    "f = lambda x: jnp.tanh(x).reshape(-1)[:3]\n"
    "x = jnp.linspace(0, 1, 12).reshape(2, 2, 3)",
    "maps = jxai.each(gradient, f, jnp.stack([x] * 7), 1, batch_size=2, on_progress=jxai.ProgressBar())",
    "certify(f, x, 0.01, method='interval')",
    "from jxai import plot\nplot.explanations(x, {'gradient': maps[0]})",
)


def test_progress_and_results_render():
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in CELLS])
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
    _, each, certificate, figure = ([output for output in cell.outputs if output.output_type != "stream"] for cell in book.cells)
    assert len(each) == 1 and "value='7' max='7'" in each[0].data["text/html"] and "7 of 7" in each[0].data["text/html"]
    assert "<b>RobustnessCertificate</b>" in certificate[0].data["text/html"]
    assert "image/png" in figure[0].data
