# SPDX-License-Identifier: GPL-2.0-only
"""The rules of the house: linters, imports, sizes, words."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "bsync"
MODULES = sorted(SOURCE.rglob("*.py"))
TEST_FOLDERS = sorted(
    {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("*.py")}
)
FOLDERS = [name for name in ("src", "tests", "bench", "tools") if (ROOT / name).exists()]

# What says so of itself computes, and does nothing else: whoever imports it can be sure of that.
PURE = sorted(
    path.relative_to(SOURCE).with_suffix("").as_posix()
    for path in MODULES
    if re.search(r"\bPure\b", ast.get_docstring(ast.parse(path.read_text())) or "")
)
# All of these have to be.
PURE_FOLDERS = ("model", "plan", "filesystems")
# Who may import whom: a module those of its own folder and of the floors below it.
FLOORS: tuple[tuple[str, ...], ...] = (
    (
        "__init__",
        "distribution",
        "errors",
        "in_progress",
        "ioctls",
        "journal",
        "pace",
    ),
    ("deferred", "locate", "model", "trace", "units"),
    ("ledger", "run", "say"),
    ("bootcode", "filesystems"),
    ("acquire", "plan"),
    ("blockio", "events", "explain", "passwords", "recovery", "repair", "request", "survey"),
    ("engines", "jsonlines", "preflight", "screen"),
    ("report",),
    ("execution", "verify"),
    ("execute", "session"),
    ("pipeline",),
    ("jobs",),
    ("parser",),
    ("completion", "options"),
    ("cli",),
    ("__main__",),
)
ALLOWED = frozenset(
    (
        "__future__", "collections", "collections.abc", "contextlib", "dataclasses", "difflib",
        "enum", "errno", "functools", "ipaddress", "itertools", "json", "math", "numpy",
        "numpy.typing", "re", "shlex", "signal", "stat", "struct", "textwrap", "typing",
        "unicodedata", "urllib.parse", "uuid", "zlib",
    )
)  # fmt: skip

LONGEST_FUNCTION, LONGEST_MODULE = 40, 400

MYPY = pytest.mark.xdist_group("mypy")  # its runs fill one cache

Function = ast.FunctionDef | ast.AsyncFunctionDef


def checked(*command: str, **environment: str) -> None:
    """Run a linter over the repository; what it finds fails the test."""
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert result.returncode == 0, f"{' '.join(command)}:\n{result.stdout}{result.stderr}"


def python(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *words)


def test_ruff_finds_nothing() -> None:
    checked(*python("ruff", "check", "--no-cache", *FOLDERS))


def test_ruff_would_format_nothing() -> None:
    checked(*python("ruff", "format", "--no-cache", "--check", *FOLDERS))


@MYPY
def test_mypy_finds_nothing() -> None:
    checked(*python("mypy", *(name for name in FOLDERS if name != "tests")))


@MYPY
@pytest.mark.parametrize("folder", TEST_FOLDERS)
def test_mypy_finds_nothing_in_the_tests(folder: str) -> None:
    """Each folder by itself: its modules are imported flat, and each may have a conftest."""
    files = map(str, sorted((ROOT / folder).glob("*.py")))
    checked(
        *python("mypy", *files),
        MYPYPATH=":".join(str(ROOT / "tests" / name) for name in ("host", "boot", "vm")),
    )


def test_shellcheck_finds_nothing() -> None:
    scripts = [path for path in own_files() if is_shell(path)]
    if scripts:
        assert shutil.which("shellcheck"), "apt-get install shellcheck"
        checked("shellcheck", *map(str, scripts))


def own_files() -> list[Path]:
    """What the repository holds, or would hold if all were added."""
    listed = subprocess.run(
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def is_shell(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(80)
    return path.suffix == ".sh" or (first.startswith(b"#!") and first.rstrip().endswith(b"sh"))


def test_every_source_file_names_its_licence() -> None:
    for path in own_files():
        if path.suffix in (".py", ".sh") or path.name == "Makefile" or is_shell(path):
            head = path.read_text().split("\n")[:3]
            assert "# SPDX-License-Identifier: GPL-2.0-only" in head, path


# --- imports ------------------------------------------------------------------------------


def name_of(path: Path) -> str:
    return path.relative_to(SOURCE).with_suffix("").as_posix()


def imports(path: Path) -> Iterator[str]:
    """The modules that a file names in import statements, wherever they stand."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_module(word: str) -> str | None:
    """`bsync.plan.steps` → `plan/steps`; None where it is a name within a module."""
    path = SOURCE / "/".join(word.split(".")[1:])
    if path.with_suffix(".py").exists() and word != "bsync":
        return name_of(path.with_suffix(".py"))
    return name_of(path / "__init__.py") if (path / "__init__.py").exists() else None


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_import_nothing_that_does_anything(name: str) -> None:
    for word in imports(SOURCE / f"{name}.py"):
        if word.split(".")[0] == "bsync":
            module = own_module(word)
            assert module is None or module in (*PURE, "__init__"), f"{name} imports {word}"
        else:
            known = word in ALLOWED or word.rpartition(".")[0] in ALLOWED
            assert known, f"{name} imports {word}, which is not known to be pure"


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_open_nothing(name: str) -> None:
    tree = ast.parse((SOURCE / f"{name}.py").read_text())
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not called & {"open", "print", "input", "exec", "eval", "__import__"}


@pytest.mark.parametrize("folder", PURE_FOLDERS)
def test_a_new_module_in_a_pure_folder_is_pure(folder: str) -> None:
    assert {name_of(path) for path in (SOURCE / folder).rglob("*.py")} <= set(PURE)


def floor_of(module: str) -> tuple[int, str]:
    """The floor of a module, and its folder or itself."""
    room = module.split("/")[0]
    return next((number, room) for number, rooms in enumerate(FLOORS) if room in rooms)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_arrow_leads_up(path: Path) -> None:
    floor, room = floor_of(name_of(path))
    for word in imports(path):
        module = own_module(word) if word.split(".")[0] == "bsync" else None
        if module is not None:
            below, other = floor_of(module)
            assert below < floor or other == room, f"{room} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_gateway_starts_processes(path: Path) -> None:
    if name_of(path) == "run":
        return
    words = set(imports(path))
    assert not words & {"subprocess", "multiprocessing", "asyncio.subprocess", "pty"}
    forbidden = ("system", "popen", "fork", "forkpty")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            starts = node.attr.startswith(("exec", "spawn", "posix_spawn")) or (
                node.attr in forbidden
            )
            assert not (node.value.id == "os" and starts), f"os.{node.attr} in {name_of(path)}"


def test_the_command_line_is_light() -> None:
    """`bsync --help` answers at once: what is heavy is imported when a command runs."""
    script = "import sys, json, bsync.__main__, bsync.cli; print(json.dumps(list(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(result.stdout))
    assert "click" in loaded
    heavy = {
        "numpy", "subprocess", "bsync.pipeline", "bsync.plan", "bsync.run",
        "bsync.report", "bsync.execute", "hypothesis", "pytest",
    }  # fmt: skip
    assert not loaded & heavy


# --- sizes and words ----------------------------------------------------------------------


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_functions_and_modules_are_short(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    for function in functions(ast.parse(text)):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= LONGEST_FUNCTION, f"{function.name} has {lines} lines"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_what_is_public_says_what_it_is(path: Path) -> None:
    """Modules, classes and functions of modules; of methods those that say more than a name."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


def test_test_modules_have_names_of_their_own() -> None:
    names = [path.name for path in (ROOT / "tests").rglob("*.py") if path.name != "conftest.py"]
    assert len(set(names)) == len(names)
    assert not list((ROOT / "tests").rglob("__init__.py"))
