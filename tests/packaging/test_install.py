"""The wheel, the editable install and their removal leave ``twistd --help`` right, in a fresh environment.

The environment has its own copy of Twisted, so that the plugin is put beside Twisted's own as on a user's machine, and borrows all
else from the environment that runs the tests: no network, and quick.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib import metadata
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "txsse", "twisted")
DEBRIS = shutil.ignore_patterns("__pycache__", "*dropin.cache*")  # a twistd elsewhere may just be writing one
PLUGINS = {"twisted/plugins/txsse_plugin.py", "twisted/plugins/txsse_reactor.py"}
DATA = {"txsse/py.typed", "txsse/pages/waiting.html"}


def run(*command: str | Path, cwd: Path) -> str:
    answer = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert answer.returncode == 0, f"{command}: {answer.stdout}{answer.stderr}"
    return answer.stdout


@attrs.frozen
class Environment:
    """A virtual environment in *folder*."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return Path(sysconfig.get_path("purelib", vars={"base": str(self.folder)}))

    def pip(self, *arguments: str | Path) -> str:
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "--python", self.python)
        return run(*pip, *arguments, cwd=self.folder)

    def install(self, *what: str | Path) -> None:
        # The borrowed packages may include a txsse of the environment that runs the tests: not to be touched.
        self.pip("install", "--ignore-installed", "--no-deps", "--no-build-isolation", "--no-index", *what)

    def uninstall(self) -> None:
        self.pip("uninstall", "--yes", "txsse")

    def twistd(self, *arguments: str) -> str:
        # -I: nothing of the folder we are called from is on the path.
        return run(self.python, "-I", "-c", "from twisted.scripts.twistd import run; run()", *arguments, cwd=self.folder)

    def offers_sse_proxy(self) -> bool:
        shown = self.twistd("--help")
        assert "Commands:" in shown and " web " in shown, "twistd has lost its own plugins"
        return "sse-proxy" in shown

    def offers_reactor(self) -> bool:
        return "txsse" in self.twistd("--help-reactors").split()

    def has_command(self) -> bool:
        return (self.folder / "bin" / "txsse").exists()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, so that building leaves nothing in ours and finds nothing stale in it."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, folder / name, ignore=DEBRIS)
        else:
            shutil.copy(origin, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    made = Environment(tmp_path)
    run(sys.executable, "-m", "venv", "--without-pip", made.folder, cwd=made.folder)
    twisted = metadata.distribution("twisted")
    origin = Path(str(twisted.locate_file("twisted")))
    shutil.copytree(
        origin, made.site_packages / "twisted", ignore=shutil.ignore_patterns("__pycache__", "*dropin.cache*", "test", "txsse_*.py")
    )
    (made.site_packages / "borrowed.pth").write_text(f"{origin.parent}\n")
    return made


def test_wheel_holds_the_whole_tree_and_nothing_else(wheel: Path, source: Path) -> None:
    ours = {str(path.relative_to(source)) for path in (source / "txsse").rglob("*.py")} | PLUGINS | DATA
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == ours
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_wheel_can_be_installed_and_uninstalled(environment: Environment, wheel: Path) -> None:
    assert not environment.offers_sse_proxy()

    environment.install(wheel)
    assert environment.offers_sse_proxy()
    assert environment.has_command() and environment.offers_reactor()
    assert "--upstream" in environment.twistd("sse-proxy", "--help")

    environment.uninstall()
    assert not environment.offers_sse_proxy()
    assert not environment.has_command() and not environment.offers_reactor()


def test_editable_install_shows_the_plugin_and_can_be_uninstalled(environment: Environment, source: Path) -> None:
    environment.install("--editable", source)
    assert environment.offers_sse_proxy()
    assert environment.has_command()
    where = run(environment.python, "-I", "-c", "import txsse; print(txsse.__file__)", cwd=environment.folder)
    assert Path(where.strip()) == source / "txsse" / "__init__.py"

    environment.uninstall()
    assert not environment.offers_sse_proxy()
    assert not environment.has_command()
