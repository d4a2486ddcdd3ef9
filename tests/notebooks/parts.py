"""The parts of a notebook, as the rules of the course read them."""

import ast
import importlib.util
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOT_ATTEMPTED, RIGHT, NOT_YET = "not attempted yet", "right:", "not yet:"
FENCED = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.MULTILINE | re.DOTALL)
CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
ADDRESS = re.compile(r"(?<=\])\([^()\s]*(?:\([^()\s]*\)[^()\s]*)*\)|https?://[^\s<>)]+")


def of_the_course(name: str):
    """The module of notebooks/ with this name, apart from others called conftest."""
    path = ROOT / "notebooks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"course_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read(source: Path) -> NotebookNode:
    """The notebook beside a source."""
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def outputs(notebook: NotebookNode):
    """Each output with the cell that it belongs to."""
    for cell in code_cells(notebook):
        for output in cell.outputs:
            yield cell, output


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def words(output: NotebookNode) -> str:
    """The text of an output, without that of a picture, which is its alt text."""
    if output.output_type == "stream":
        return output.text
    data = output.get("data", {})
    return "" if "image/png" in data else data.get("text/plain", "")


def statements(cell: NotebookNode) -> list[ast.AST]:
    """All syntax nodes of a cell's code."""
    return list(ast.walk(ast.parse(cell.source)))


def used(nodes) -> set[str]:
    """The names that some syntax nodes read."""
    names = (node for node in nodes if isinstance(node, ast.Name))
    return {node.id for node in names if isinstance(node.ctx, ast.Load)}


def assigned(nodes) -> set[str]:
    """The names that some syntax nodes assign, define, import or take as arguments."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


def without_code(cell: NotebookNode) -> str:
    return CODE_SPAN.sub("`", FENCED.sub("`", cell.source))


def prose(cell: NotebookNode) -> str:
    """The text of a markdown cell, without code and without addresses of links."""
    return ADDRESS.sub("", without_code(cell))
