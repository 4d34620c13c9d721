# SPDX-License-Identifier: GPL-2.0-only
"""What is handed to others: the source distribution, what is made of it, `make install`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MADE = (  # below a prefix
    "share/man/man8/bsync.8",
    "share/bash-completion/completions/bsync",
    "share/zsh/site-functions/_bsync",
    "share/fish/vendor_completions.d/bsync.fish",
    "share/doc/bsync/README.md",
    "share/doc/bsync/CHANGELOG.md",
    "share/doc/bsync/COPYING",
    "share/doc/bsync/docs/ARCHITECTURE.md",
)
EXPOSURE = 58  # of 100, as systemd-analyze has it: what a service may do that need not
UNITS = ("bsync@.service", "bsync@.timer", "bsync-recover.service")


def done(*command: str | Path, **environment: str) -> str:
    """What `command` says; it has to succeed."""
    told = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    result = subprocess.run(
        list(map(str, command)), env=told | environment, cwd="/", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{command}:\n{result.stdout}{result.stderr}"
    return result.stdout


def own_files() -> list[str]:
    listed = done("git", "-c", f"safe.directory={ROOT}", "-C", ROOT, "ls-files", "-z").split("\0")
    return [name for name in listed if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    for name in own_files():
        copy = folder / "checkout" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, copy)
    build = "import os, sys; os.chdir(sys.argv[1]); import setuptools.build_meta as build; "
    done(sys.executable, "-c", build + "build.build_sdist('..')", folder / "checkout")
    (archive,) = folder.glob("*.tar.gz")
    return archive


@pytest.fixture(scope="module")
def tree(archive: Path) -> Path:
    """The source distribution, unpacked; it has whatever the repository has."""
    folder = archive.parent / "unpacked"
    with tarfile.open(archive) as sources:
        sources.extractall(folder)
    (unpacked,) = folder.iterdir()
    there = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*")}
    assert {name for name in own_files() if not name.startswith(".git")} - there == set()
    return unpacked


def test_a_wheel_of_the_sources_works_by_itself(tree: Path, tmp_path: Path) -> None:
    pip = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
    done(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, tree)
    (wheel,) = tmp_path.glob("*.whl")
    name = "-".join(wheel.name.split("-")[:2])
    metadata = zipfile.ZipFile(wheel).read(f"{name}.dist-info/METADATA")
    assert re.search(rb"^License(-Expression)?: GPL-2.0-only$", metadata, re.MULTILINE)

    done(sys.executable, "-m", "venv", "--without-pip", tmp_path / "clean")
    python = tmp_path / "clean/bin/python"
    done(*pip, "--python", python, "install", "--no-deps", wheel)
    site = done(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # What it depends on, from here instead of from the registry; bsync's own, not from here.
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    where = done(python, "-c", "import bsync; print(bsync.__file__)")
    assert where.startswith(str(tmp_path))
    assert done(tmp_path / "clean/bin/bsync", "--version").startswith("bsync ")
    for name in MADE:
        assert (tmp_path / "clean" / name).stat().st_size > 100, name


# What Fedora's python3-rpm-macros, redhat-rpm-config and systemd-rpm-macros define; and Debian's
# rpm has its script for man pages run by a shell that cannot.
FEDORA = r"""
%python3 /usr/bin/python3
%_unitdir /usr/lib/systemd/system
%_pkgdocdir %{_docdir}/%{name}
%systemd_post() if [ $1 -eq 1 ]; then\
    systemctl preset %{?*} || :\
fi
%systemd_preun() if [ $1 -eq 0 ]; then\
    systemctl disable --now %{?*} || :\
fi
%systemd_postun() if [ $1 -ge 1 ]; then\
    systemctl daemon-reload || :\
fi
%__brp_compress /bin/bash %{_rpmconfigdir}/brp-compress /usr
"""


def test_an_rpm_of_the_sources_is_complete(archive: Path, tree: Path, tmp_path: Path) -> None:
    """By Debian's rpm, which knows of no package that is installed; rpmlint finds nothing."""
    spec = tree / "packaging/bsync.spec"
    # As today's setuptools name it; Debian 12's have a hyphen.
    shutil.copy(archive, tmp_path / archive.name.replace("bsync-disk", "bsync_disk"))
    (tmp_path / "fedora").write_text(FEDORA)
    folders = {"_topdir": tmp_path, "_sourcedir": tmp_path, "_tmppath": tmp_path}
    defined = [f"--define={name} {value}" for name, value in folders.items()]
    load = f"--load={tmp_path}/fedora"
    done("rpmbuild", load, *defined, "--nodeps", "-ba", spec)
    (package,) = tmp_path.glob("RPMS/noarch/*.rpm")
    (sources,) = tmp_path.glob("SRPMS/*.rpm")

    held = set(done("rpm", "--query", "--list", "--package", package).split())
    modules = {f"/usr/share/bsync/{path.relative_to(tree / 'src')}"
               for path in (tree / "src/bsync").rglob("*.py")}  # fmt: skip
    compiled = {
        re.sub(r"(\w+)\.py$", rf"__pycache__/\1.{sys.implementation.cache_tag}.pyc", name)
        for name in modules
    }
    made = {f"/usr/{name}" for name in MADE if "COPYING" not in name} - {"/usr/" + MADE[0]}
    units = {f"/usr/lib/systemd/system/{name}" for name in UNITS}
    assert {"/usr/bin/bsync", f"/usr/{MADE[0]}.gz"} | modules | compiled | made | units <= held
    licence = done("rpm", "--query", "--licensefiles", "--package", package)
    assert licence.endswith("/COPYING\n")
    lint = ("rpmlint", "--config", tree / "packaging/rpmlint.toml")
    assert " 0 errors, 0 warnings," in done(*lint, package, sources, spec)

    with subprocess.Popen(["rpm2cpio", package], stdout=subprocess.PIPE) as contents:
        cpio = ["cpio", "--quiet", "--extract", "--make-directories"]
        subprocess.run(cpio, stdin=contents.stdout, cwd=tmp_path, check=True)
    (module,) = tmp_path.glob("usr/share/bsync/bsync/__pycache__/cli.*.pyc")
    assert module.read_bytes()[4] == 3  # checked by the hash of its source


def test_make_install_is_what_a_packager_expects(tree: Path, tmp_path: Path) -> None:
    """All below DESTDIR, named as below PREFIX, owned and removed again; nothing is downloaded."""
    make = ("make", "--silent", "-C", tree, f"PYTHON={sys.executable}")
    before = {path for path in tree.rglob("*") if "__pycache__" not in path.parts}
    done(*make, "install", f"DESTDIR={tmp_path}/root", "PREFIX=/opt/b", http_proxy="http://[::1]:9")
    assert {path for path in tree.rglob("*") if "__pycache__" not in path.parts} == before
    prefix = tmp_path / "root/opt/b"
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["opt"]
    for name in MADE:
        assert (prefix / name).stat().st_mode & 0o777 == 0o644, name
    for name in UNITS:
        assert (prefix / "lib/systemd/system" / name).is_file()
    launcher = prefix / "bin/bsync"
    assert str(tmp_path) not in launcher.read_text()
    done(*make, "uninstall", f"DESTDIR={tmp_path}/root", "PREFIX=/opt/b")
    assert [path for path in prefix.rglob("*") if path.is_file()] == []

    done(*make, "install", f"PREFIX={tmp_path}/here")
    bsync = tmp_path / "here/bin/bsync"
    assert done(bsync, "--version").startswith("bsync ")
    file = tmp_path / "jobs.toml"
    file.write_text("[job.a]\nsource = '/nowhere/a'\ndestination = '/nowhere/b'\n")
    run = subprocess.run([bsync, "run", "--all", "--file", file], capture_output=True, text=True)
    assert "a: failed: /nowhere/a: No such file or directory" in run.stdout, run


def test_make_alone_shows_the_targets_and_makes_nothing(tree: Path) -> None:
    before = set(tree.rglob("*"))
    shown = done("make", "-C", tree)
    for target in ("demo", "install", "develop", "test"):
        assert f"make {target} " in shown
    assert set(tree.rglob("*")) == before


def test_the_units_are_such_as_systemd_takes(tree: Path, tmp_path: Path) -> None:
    """With a program that is there in place of bsync, and an instance in place of the template."""
    for path in (tree / "systemd").iterdir():
        text = path.read_text().replace("ExecStart=bsync ", "ExecStart=/bin/true ")
        (tmp_path / path.name.replace("@", "@nightly")).write_text(text)
    assert len(list(tmp_path.iterdir())) == 3
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")
    services = [path for path in tmp_path.iterdir() if path.suffix == ".service"]
    done("systemd-analyze", "security", "--offline=yes", f"--threshold={EXPOSURE}", *services)


def test_both_services_have_the_same_restrictions() -> None:
    run, recover = (
        (ROOT / "systemd" / name).read_text().partition("\nDevicePolicy=")[2].partition("\n\n")[0]
        for name in ("bsync@.service", "bsync-recover.service")
    )
    assert run.strip() == recover.strip() != ""


def test_the_man_page_is_clean(tmp_path: Path) -> None:
    done(sys.executable, ROOT / "tools/make_docs.py", tmp_path)
    done("mandoc", "-Tlint", "-Wwarning", tmp_path / "man/man8/bsync.8")
