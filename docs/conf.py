"""How Sphinx makes the documentation; the pages are Markdown."""

import tomllib
from pathlib import Path

project = "securecfg"
project_copyright = "the securecfg authors"
release = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]["version"]

extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"securecfg {release}"
myst_heading_anchors = 3
# Pages link to files of the repository that are no pages, such as `../SECURITY.md`.
# Pygments does not know Cedar, and shows its blocks as they are.
suppress_warnings = ["myst.xref_missing", "toc.not_included", "misc.highlighting_failure"]
