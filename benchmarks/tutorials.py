"""Run the tutorials and write their pages: `make tutorials`. Each runs as a program first, then cell by cell for what it shows.

    python benchmarks/tutorials.py tutorials/first_set.py ...

A page is Markdown with its pictures beside it, below docs/tutorials; progress, which goes to stderr, is left out.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import jupytext
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import ExecutePreprocessor

PAGES = Path(__file__).parent.parent / "docs" / "tutorials"
SECONDS = 600  # of a cell, at most


def render(script: Path) -> None:
    """One tutorial, run in a folder of its own: the second run finds the files of the first."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, script.absolute()], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        notebook = jupytext.read(script)
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python", "language": "python"}
        ExecutePreprocessor(timeout=SECONDS).preprocess(notebook, {"metadata": {"path": folder}})
    for cell in (each for each in notebook.cells if each.cell_type == "code"):
        cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
        for output in cell.outputs:
            output.get("data", {}).pop("image/jpeg", None)  # the same picture, blurred
    names = {"output_files_dir": script.stem, "unique_key": script.stem}
    text, found = MarkdownExporter().from_notebook_node(notebook, names)
    (PAGES / script.stem).mkdir(parents=True, exist_ok=True)
    for name, data in found["outputs"].items():
        (PAGES / name).write_bytes(data)
    end = f"*This page is what `python tutorials/{script.name}` did when the site was built.*"
    (PAGES / f"{script.stem}.md").write_text(f"{text.rstrip()}\n\n{end}\n")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        render(Path(name))
