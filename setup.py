# SPDX-License-Identifier: GPL-2.0-only
"""What pyproject.toml cannot say: what is made for the wheel, and the licence as an expression,
which setuptools takes there only since 77 (and Debian 12 has 66)."""

import sys
from pathlib import Path

import setuptools

LICENCE = "GPL-2.0-only"
ROOT = Path(__file__).resolve().parent
MADE = Path("build/share")


def data_files() -> list[tuple[str, list[str]]]:
    """The man page, completions and documentation, by the folder below the prefix."""
    sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tools")]
    make_docs = __import__("make_docs")
    make_docs.main(ROOT / MADE)
    wanted = make_docs.installed(ROOT, MADE)
    return [(str(folder), sorted(map(str, files))) for folder, files in sorted(wanted.items())]


expresses = int(setuptools.__version__.split(".")[0]) >= 77
licence = {"license_expression" if expresses else "license": LICENCE}
setuptools.setup(data_files=data_files(), **licence)
