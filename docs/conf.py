"""Settings of the documentation site: `python -m sphinx -W -n -c docs . build/site`.

The source folder is the root of the repository, so that links between the guides, the README and
the tables beside the benchmarks are those that GitHub follows. Nothing is loaded from a network,
neither when the site is built nor when it is read.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

import aopc_monitor

project = "aopc_monitor"
author = "The aopc_monitor developers"
release = version = aopc_monitor.__version__
project_copyright = ""

sys.path.insert(0, str(Path(__file__).parent))
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "from_tables"]
root_doc = "docs/contents"
include_patterns = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/*.md",
    "docs/*.md",
    "docs/*.rst",
    "docs/*/*.md",
    "docs/*/*.rst",
]
# Folders that are not even looked into.
exclude_patterns = [".*", "aopc_monitor", "build", "data", "dist", "recipes", "runs", "tests"]

myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
# A word in single backticks is code.
default_role = "code"
nitpick_ignore_regex = [
    # Types of other libraries, whose documentation is on the network, and aliases.
    ("py:.*", r"(?!aopc_monitor\.).*"),
    # What the engine of heatmaps is made of, and hands to rules.
    ("py:class", r"aopc_monitor\.heatmaps\.(engine|rules)\..*"),
    # What a reference is made of, which nobody makes but its `fit`.
    ("py:class", r"aopc_monitor\.metrics\.patch_features\..*"),
]

html_theme = "furo"
html_title = f"aopc_monitor {release}"
html_show_copyright = False
html_show_sphinx = False
html_copy_source = False
templates_path = ["_templates"]
html_additional_pages = {"index": "start.html"}


def visit_inline_math(translator: Any, node: nodes.Node) -> None:
    """Write a formula as MathML, which browsers draw without a script from elsewhere."""
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_math_block(translator: Any, node: nodes.Node) -> None:
    """Write a displayed formula as MathML."""
    translator.body.append(f"<p>{tex2mathml(node.astext(), as_block=True)}</p>")
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Let Sphinx write formulas as MathML."""
    app.add_html_math_renderer("mathml", (visit_inline_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


html_math_renderer = "mathml"
