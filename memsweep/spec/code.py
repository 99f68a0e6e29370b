"""The user's code that a trial runs: a fingerprint of what its import paths reach, and the packages that it uses.

Only text is read, no module is run: the definitions that a name reaches inside its module and inside the user's other
modules, through names, imports and texts that equal a name. Statements of a module that define nothing, such as calls,
always count. Comments, docstrings and formatting do not. Code that is found at run time alone, by
`importlib.import_module` or `exec`, is not seen. The standard library and memsweep do not count; of installed packages,
names and versions are kept.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any, NamedTuple

from memsweep.spec.config import ConfigError

_STAR = "*"
_OURS = "memsweep"


class Code(NamedTuple):
    """What import paths reach."""

    fingerprint: str | None  # 16 hexadecimal digits; None: no code of the user's
    parts: Mapping[str, str]  # "module:name" of a definition, "module" of its other statements -> hash
    packages: Mapping[str, str]  # installed packages that this code imports -> version
    files: tuple[str, ...]  # of the user's modules, the one of the first import path first


NO_CODE = Code(None, {}, {}, ())


def code_of(imports: Iterable[str]) -> Code:
    """Returns the code behind these import paths, as their files are now.  Raises ConfigError for unreadable code."""
    reader = _Reader()
    for path in sorted(set(imports)):
        module, _, name = path.partition(":")
        try:
            reader.read(module, name)
        except (SyntaxError, ValueError, OSError, ImportError) as error:
            raise ConfigError(
                [f"{path}: its code can't be read ({type(error).__name__}: {error}). Mend the file."]
            ) from error
    if not reader.parts:
        return NO_CODE._replace(packages=reader.packages)
    parts = dict(sorted(reader.parts.items()))
    return Code(_digest(parts), parts, dict(sorted(reader.packages.items())), tuple(reader.files))


def changes(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Returns the parts that differ, sorted: `my_lab:Net`, or `my_lab` for statements that define no name."""
    return sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))


class _Module(NamedTuple):
    """A module's statements."""

    bindings: Mapping[str, list[ast.stmt]]  # name -> statements that define it
    others: list[ast.stmt]  # statements that define no name
    stars: list[str]  # modules of which it imports *


class _Reader:
    """Collects the definitions that names reach."""

    def __init__(self) -> None:
        self.parts: dict[str, str] = {}
        self.packages: dict[str, str] = {}
        self.files: dict[str, None] = {}
        self._modules: dict[str, _Module | None] = {}
        self._read: set[tuple[str, str]] = set()

    def read(self, module: str, name: str) -> None:
        """Adds what a name of a module reaches.  name: `*` for the whole module."""
        waiting = [(module, name)]
        while waiting:
            key = waiting.pop()
            if key not in self._read:
                self._read.add(key)
                waiting += self._reached(*key)

    def _reached(self, module: str, name: str) -> Iterator[tuple[str, str]]:
        """Adds one definition; yields the definitions that it refers to."""
        content = self._module(module)
        if content is None:
            return
        parent = module.rpartition(".")[0]
        if parent:  # importing a module runs its packages
            yield parent, ""
        yield module, ""  # and all its statements that define no name
        if name == "":
            statements = content.others
        elif name == _STAR:
            yield from ((module, other) for other in content.bindings)
            yield from ((star, _STAR) for star in content.stars)
            return
        elif name in content.bindings:
            statements = content.bindings[name]
        elif self._module(f"{module}.{name}") is not None:  # a submodule
            yield f"{module}.{name}", _STAR
            return
        else:
            sources = [star for star in content.stars if self._defines(star, name)]
            yield from ((star, name) for star in sources or content.stars)
            if not content.stars:  # defined at run time alone
                yield module, _STAR
            return
        if statements:
            self.parts[f"{module}:{name}".rstrip(":")] = _digest(
                [_definition(statement, name) for statement in statements]
            )
        for statement in statements:
            yield from self._references(statement, module, content, name)

    def _references(self, statement: ast.stmt, module: str, content: _Module, name: str) -> Iterator[tuple[str, str]]:
        """Yields (module, name) of everything that a statement refers to; of an import, only what `name` is."""
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id in content.bindings:
                yield module, node.id
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in content.bindings:
                yield module, node.value
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    if node is not statement or name in ("", _bound(alias)):
                        yield alias.name, _STAR
            elif isinstance(node, ast.ImportFrom):
                source = _absolute(node, module, self._is_package(module))
                for alias in node.names:
                    if node is not statement or name in ("", alias.asname or alias.name):
                        yield source, alias.name

    def _module(self, name: str) -> _Module | None:
        """Returns a user's module; None for any other module, and for a module that does not exist."""
        if name not in self._modules:
            self._modules[name] = self._parsed(name)
        return self._modules[name]

    def _parsed(self, name: str) -> _Module | None:
        top = name.partition(".")[0]
        if not name or top in sys.stdlib_module_names or top == _OURS:
            return None
        spec = _spec(name)
        if spec is None or spec.origin in (None, "built-in", "frozen") or spec.loader is None:
            return None
        if _is_library(Path(str(spec.origin))):
            self.packages |= _versions(top)
            return None
        self.files[str(spec.origin)] = None
        source = getattr(spec.loader, "get_source", lambda name: None)(name)
        if source is None:  # compiled
            content = Path(str(spec.origin)).read_bytes()
            self.parts[name] = hashlib.blake2b(content, digest_size=8).hexdigest()
            return _Module({}, [], [])
        return _statements(ast.parse(source), name, spec.submodule_search_locations is not None)

    def _is_package(self, module: str) -> bool:
        spec = _spec(module)
        return spec is not None and spec.submodule_search_locations is not None

    def _defines(self, module: str, name: str) -> bool:
        content = self._module(module)
        return content is not None and (
            name in content.bindings or any(self._defines(star, name) for star in content.stars if star != module)
        )


def _spec(name: str) -> ModuleSpec | None:
    """Returns where a module is; runs no package on the way, unlike `importlib.util.find_spec`."""
    parent = name.rpartition(".")[0]
    try:
        if not parent:
            return importlib.util.find_spec(name)
        package = _spec(parent)
        places = package.submodule_search_locations if package else None
        return PathFinder.find_spec(name, places) if places is not None else None
    except (ImportError, ValueError):  # a module without a spec, as a notebook's
        return None


def _statements(tree: ast.Module, module: str, is_package: bool) -> _Module:
    """Returns a module's statements by the names that they define."""
    bindings: dict[str, list[ast.stmt]] = {}
    others: list[ast.stmt] = []
    stars: list[str] = []
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.names[0].name == _STAR:
            stars.append(_absolute(statement, module, is_package))
        elif names := list(_names(statement)):
            for name in names:
                bindings.setdefault(name, []).append(statement)
        elif not _is_idle(statement):
            others.append(statement)
    return _Module(bindings, others, stars)


def _names(statement: ast.stmt) -> Iterator[str]:
    """Yields the names that a statement defines, if it does nothing else."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Import):
        yield from map(_bound, statement.names)
    elif isinstance(statement, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        nodes = [node for target in targets for node in ast.walk(target)]
        if not any(isinstance(node, ast.Attribute | ast.Subscript) for node in nodes):  # these change other objects
            yield from (node.id for node in nodes if isinstance(node, ast.Name))


def _is_idle(statement: ast.stmt) -> bool:
    """Returns whether a statement does nothing when its module is imported."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    if isinstance(statement, ast.If):
        return ast.unparse(statement.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")
    return isinstance(statement, ast.Pass)


def _definition(statement: ast.stmt, name: str) -> Any:
    """Returns a statement as lists; of an import, only what defines this name."""
    if not isinstance(statement, ast.Import | ast.ImportFrom):
        return _plain(statement)
    source = (statement.level, statement.module) if isinstance(statement, ast.ImportFrom) else ()
    return [*source, *(alias.name for alias in statement.names if name in (alias.asname, _bound(alias), alias.name))]


def _bound(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _absolute(statement: ast.ImportFrom, module: str, is_package: bool) -> str:
    """Returns the module that `from ... import` names, inside this module."""
    package = module if is_package else module.rpartition(".")[0]
    for _ in range(statement.level - 1):
        package = package.rpartition(".")[0]
    return ".".join(filter(None, [package if statement.level else "", statement.module]))


def _plain(node: Any) -> Any:
    """Returns a syntax tree as lists, without positions and docstrings, the same in every version of Python."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    fields.pop("kind", None)  # u"..."
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
        fields["body"] = node.body[1:]
    return [type(node).__name__, *([name, _plain(value)] for name, value in fields.items() if value not in (None, []))]


@cache
def _folders() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    return tuple({Path(sysconfig.get_path(name)).resolve() for name in names})


def _is_library(file: Path) -> bool:
    """Returns whether a file belongs to Python or to an installed package."""
    file = file.resolve()
    is_installed = {"site-packages", "dist-packages"} & set(file.parts)
    return bool(is_installed) or any(file.is_relative_to(folder) for folder in _folders())


def _versions(top: str) -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _distributions().get(top, ())}


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def _digest(content: Any) -> str:
    return hashlib.blake2b(repr(content).encode(), digest_size=8).hexdigest()
