"""What is installed: every module and data file of the five folders under mird, and no name beside it."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import metadata, packages_distributions, requires
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
LOCAL = ("--no-deps", "--no-index")
FOLDERS = ("daemon", "kernels", "training", "clients", "configs")
LEFT_THERE = {"__pycache__", "node_modules"}


def _tracked_or_new() -> Iterator[Path]:
    """Files of the five folders, relative to the root, without what Python, npm and the editors leave there."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and not LEFT_THERE & set(path.parts) and not path.name.startswith("."):
                yield path.relative_to(ROOT)


def _module_name(path: Path) -> str:
    return ".".join(("mird", *path.with_suffix("").parts)).removesuffix(".__init__")


# The examples are programs: they run when they are imported.
MODULES = [path for path in _tracked_or_new() if path.suffix == ".py" and "examples" not in path.parts]


def test_the_wheel_has_every_file_of_the_folders(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {f"mird/{path.as_posix()}" for path in _tracked_or_new()}


def test_the_wheel_installs_no_name_but_mird(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*PIP, f"--python={python}", "install", *LOCAL, wheel], check=True)
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    assert {path.name for path in site.iterdir() if not path.name.endswith(".dist-info")} == {"mird"}
    assert {path.name for path in (site / "mird").iterdir()} == set(FOLDERS)
    told = subprocess.run(
        [tmp_path / "venv" / "bin" / "mird", "--version"],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert told.stdout == f"mird {metadata('mird')['Version']}\n"


def test_the_installed_package_is_typed(wheel: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*PIP, f"--python={python}", "install", *LOCAL, wheel], check=True)
    (tmp_path / "right.py").write_text((ROOT / "clients" / "examples" / "print_events.py").read_text())
    (tmp_path / "wrong.py").write_text("from mird.clients.subscriber import Subscriber\n\nSubscriber(kinds=1)\n")
    for name, error in (("right.py", ""), ("wrong.py", 'Argument "kinds" to "Subscriber" has incompatible type')):
        command = [sys.executable, "-m", "mypy", "--strict", f"--python-executable={python}", name]
        told = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert told.returncode == bool(error), told.stdout
        assert error in told.stdout


def _needs_gpu(path: Path) -> bool:
    return path.stem.endswith("_cupy") or "\nimport cupy\n" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=pytest.mark.gpu if _needs_gpu(path) else (), id=_module_name(path)) for path in MODULES],
)
def test_every_module_imports(path: Path) -> None:
    if _needs_gpu(path):
        pytest.importorskip("cupy")
    module = import_module(_module_name(path))
    assert module.__file__ is not None
    assert Path(module.__file__).samefile(ROOT / path)


def _imports(tree: ast.AST) -> Iterator[str]:
    """Top-level names that a module imports anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared() -> dict[str, set[str]]:
    """Distributions that setup.py names, by extra; the default install's under the empty name."""
    declared: dict[str, set[str]] = {}
    for line in requires("mird") or ():
        name = re.match(r"[\w.-]+", line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        assert name
        declared.setdefault(extra[1] if extra else "", set()).add(_normal(name[0]))
    return declared


def test_every_import_is_a_declared_dependency() -> None:
    declared = _declared()
    default = declared[""] | {"pydantic", "mird"}  # pydantic-settings is made of pydantic
    on_gpu = declared["cuda"] | declared["tensorrt-rtx"] | declared["train"]  # torch is the last of its back ends
    allowed = {
        "clients": default | declared["live"],
        "training": default | declared["train"] | declared["report"],
        "kernels": default | declared["fast"] | declared["openvino"] | on_gpu,
    }
    owners = {"cupy": ["cupy-cuda13x"], **packages_distributions()}
    for path in MODULES:
        for name in set(_imports(ast.parse((ROOT / path).read_text(encoding="utf-8")))) - sys.stdlib_module_names:
            distributions = {_normal(owner) for owner in owners.get(name, [name])}
            assert distributions & allowed.get(path.parts[0], default), f"{path} imports {name}: not in setup.py"


def test_the_default_install_has_no_torch_and_no_cuda() -> None:
    default = " ".join(sorted(_declared()[""]))
    assert not re.search("torch|cuda|nvidia|gpu|tensorrt", default)


def test_the_type_checkers_import_root_leads_to_the_folders() -> None:
    links = {path.name: path.resolve() for path in (ROOT / ".typing" / "mird").iterdir()}
    assert links == {folder: ROOT / folder for folder in FOLDERS}
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert set(settings["tool"]["mypy"]["files"]) == {f".typing/mird/{folder}" for folder in FOLDERS} | {"tests"}
