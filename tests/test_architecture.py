"""Arrows between packages go one way: this reads the imports and holds us to the "never" list of the architecture page."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "twisted" / "plugins" / "txsse_plugin.py"


@attrs.frozen
class Import:
    """One imported name. ``module`` imports ``target``, a dotted name that may be a module or something in one."""

    module: str
    target: str
    deferred: bool = False  # inside a function: runs later
    typing_only: bool = False  # under "if TYPE_CHECKING": never runs

    def is_of(self, *packages: str) -> bool:
        """Whether the target is one of *packages* or inside one."""
        return any(self.target == each or self.target.startswith(each + ".") for each in packages)


def _statements(node: ast.AST, deferred: bool = False, typing_only: bool = False) -> Iterator[tuple[ast.AST, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, deferred, typing_only
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for each in child.body:
                yield from _statements(ast.Module([each], []), deferred, True)
            for each in child.orelse:
                yield from _statements(ast.Module([each], []), deferred, typing_only)
        else:
            inner = deferred or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _statements(child, inner, typing_only)


def imports_of(module: str, source: str, *, is_package: bool = False) -> list[Import]:
    """Every import in *source*, relative ones made absolute."""
    found = []
    for node, deferred, typing_only in _statements(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [Import(module, alias.name, deferred, typing_only) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                anchor = module.split(".") if is_package else module.split(".")[:-1]
                anchor = anchor[: len(anchor) - node.level + 1]
                base = ".".join([*anchor, base] if base else anchor)
            found += [Import(module, f"{base}.{alias.name}", deferred, typing_only) for alias in node.names]
    return found


def read_tree(root: Path) -> dict[str, list[Import]]:
    """Module name to its imports, for all of the package under *root*."""
    tree = {}
    for path in sorted(root.glob("txsse/**/*.py")):
        parts = list(path.relative_to(root).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        module = ".".join(parts[:-1] if is_package else parts)
        tree[module] = imports_of(module, path.read_text(encoding="utf-8"), is_package=is_package)
    return tree


def _inside(module: str, *packages: str) -> bool:
    return Import("", module).is_of(*packages)


Rule = Callable[[Import], bool]

SHELL = ("twisted", "treq", "klein", "zope", "asyncio", "socket", "select", "selectors", "threading", "time", "datetime", "txsse.clock")
# What a store answers may be long in coming.
STORES = ("txsse.recordings.store", "txsse.recordings.sqlite", "txsse.recordings.opening")
# Who may open the doors to the inner rooms of administration and command line: the composition root, nobody else.
DOORS = ("txsse.admin", "txsse.cli", "txsse.service", "txsse.tap")

NEVER: dict[str, Rule] = {
    "the sans-I/O core imports twisted, a reactor or a clock": lambda it: (
        _inside(it.module, "txsse.exchange", "txsse.dialects", "txsse.wire") and it.is_of(*SHELL)
    ),
    "the sans-I/O core imports a shell": lambda it: (
        _inside(it.module, "txsse.exchange", "txsse.dialects")
        and it.is_of("txsse.front", "txsse.upstream", "txsse.proxy", "txsse.service", "txsse.tap")
    ),
    "wire imports anything of ours": lambda it: _inside(it.module, "txsse.wire") and it.is_of("txsse") and not it.is_of("txsse.wire"),
    "recordings import who records them": lambda it: (
        _inside(it.module, "txsse.recordings") and it.is_of("txsse.front", "txsse.upstream", "txsse.proxy", "txsse.service", "txsse.tap")
    ),
    "recordings import a shell, but in their stores": lambda it: (
        _inside(it.module, "txsse.recordings") and not _inside(it.module, *STORES) and it.is_of(*SHELL)
    ),
    "upstream imports front": lambda it: _inside(it.module, "txsse.upstream") and it.is_of("txsse.front"),
    "front imports upstream": lambda it: _inside(it.module, "txsse.front") and it.is_of("txsse.upstream"),
    "a side imports what joins the two": lambda it: _inside(it.module, "txsse.front", "txsse.upstream") and it.is_of("txsse.proxy"),
    "something imports admin or cli": lambda it: it.is_of("txsse.admin", "txsse.cli") and not _inside(it.module, *DOORS),
    "a module-level reactor": lambda it: it.is_of("twisted.internet.reactor") and not it.deferred and not it.typing_only,
    "asyncio": lambda it: it.is_of("asyncio"),
}


def broken(rule: Rule, tree: Iterable[list[Import]]) -> list[str]:
    return [f"{each.module} imports {each.target}" for imports in tree for each in imports if rule(each)]


def find_cycle(tree: dict[str, list[Import]]) -> list[str]:
    """A chain of modules that import each other when they are loaded; empty if there is none."""
    graph: dict[str, set[str]] = {}
    for module, imports in tree.items():
        targets = graph.setdefault(module, set())
        for each in imports:
            if each.typing_only:
                continue
            # "from txsse.wire import headers" names a module, "from txsse.wire.headers import Headers" something in one.
            target = each.target if each.target in tree else each.target.rpartition(".")[0]
            if target in tree and target != module:
                targets.add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [*reversed(error.args[1])]
    return []


@pytest.fixture(scope="module")
def tree() -> dict[str, list[Import]]:
    return read_tree(ROOT)


@pytest.mark.parametrize("name", NEVER)
def test_never(name: str, tree: dict[str, list[Import]]) -> None:
    assert broken(NEVER[name], tree.values()) == []


def test_no_two_modules_import_each_other(tree: dict[str, list[Import]]) -> None:
    assert find_cycle(tree) == []


def test_the_plugin_file_imports_nothing_of_ours() -> None:
    imports = imports_of("twisted.plugins.txsse_plugin", PLUGIN.read_text(encoding="utf-8"))
    assert imports
    assert [each.target for each in imports if each.is_of("txsse", "twisted.internet.reactor")] == []


def test_there_is_a_tree_to_look_at(tree: dict[str, list[Import]]) -> None:
    assert {"txsse", "txsse.interfaces", "txsse.wire.headers"} <= set(tree)
    assert any(each.is_of("txsse.errors") for each in tree["txsse.interfaces"])


@pytest.mark.parametrize(
    ("name", "module", "source"),
    [
        ("the sans-I/O core imports twisted, a reactor or a clock", "txsse.exchange.machine", "from twisted.internet import defer"),
        ("the sans-I/O core imports twisted, a reactor or a clock", "txsse.dialects.openai", "import treq"),
        ("the sans-I/O core imports twisted, a reactor or a clock", "txsse.exchange.keepalive", "from txsse.clock import Alarms"),
        ("the sans-I/O core imports twisted, a reactor or a clock", "txsse.exchange.keepalive", "from txsse import clock"),
        ("the sans-I/O core imports twisted, a reactor or a clock", "txsse.wire.events", "def now():\n    import time"),
        ("the sans-I/O core imports a shell", "txsse.exchange.machine", "from txsse.front.site import ProxySite"),
        ("wire imports anything of ours", "txsse.wire.http1", "from txsse.errors import ProxyError"),
        ("wire imports anything of ours", "txsse.wire.http1", "from ..errors import ProxyError"),
        ("recordings import who records them", "txsse.recordings.recording", "from txsse.proxy.run import Run"),
        ("recordings import a shell, but in their stores", "txsse.recordings.verdict", "from twisted.internet import task"),
        ("upstream imports front", "txsse.upstream.pool", "from ..front import site"),
        ("front imports upstream", "txsse.front.site", "import txsse.upstream.pool"),
        ("a side imports what joins the two", "txsse.front.site", "from txsse.proxy.handler import Proxy"),
        ("something imports admin or cli", "txsse.proxy", "from txsse.admin import app"),
        ("something imports admin or cli", "txsse.demo.backend", "import txsse.cli.main"),
        ("a module-level reactor", "txsse.proxy", "from twisted.internet import reactor"),
        ("a module-level reactor", "txsse.proxy", "import twisted.internet.reactor"),
        ("a module-level reactor", "txsse.proxy", "class Proxy:\n    from twisted.internet import reactor"),
        ("asyncio", "txsse.client", "import asyncio"),
    ],
)
def test_a_broken_rule_is_found(name: str, module: str, source: str) -> None:
    assert broken(NEVER[name], [imports_of(module, source)])


@pytest.mark.parametrize(
    ("name", "module", "source"),
    [
        ("wire imports anything of ours", "txsse.wire.http1", "from .headers import Headers"),
        ("something imports admin or cli", "txsse.service", "from txsse.admin.app import AdminApp"),
        ("a module-level reactor", "txsse.tap", "def makeService(config):\n    from twisted.internet import reactor"),
        ("the sans-I/O core imports twisted, a reactor or a clock", "txsse.exchange.machine", "from txsse.exchange.timers import Timer"),
        ("recordings import a shell, but in their stores", "txsse.recordings.sqlite", "from twisted.internet import defer"),
    ],
)
def test_what_is_allowed_is_not_complained_about(name: str, module: str, source: str) -> None:
    assert broken(NEVER[name], [imports_of(module, source)]) == []


def test_a_cycle_is_found() -> None:
    sources = {"txsse.a": "from txsse.b import thing", "txsse.b": "from txsse import c", "txsse.c": "def late():\n    import txsse.a"}
    tree = {module: imports_of(module, source) for module, source in sources.items()}
    assert set(find_cycle(tree)) == {"txsse.a", "txsse.b", "txsse.c"}


def test_an_import_for_types_only_makes_no_cycle() -> None:
    sources = {"txsse.a": "from txsse.b import thing", "txsse.b": "if TYPE_CHECKING:\n    from txsse.a import Other"}
    tree = {module: imports_of(module, source) for module, source in sources.items()}
    assert find_cycle(tree) == []
