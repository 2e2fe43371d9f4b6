"""The code of the project, read: what each definition does, as a text that is the same for the same meaning, and what it refers to.

The unit is a definition at the top of a module. Code that cannot be followed, such as `exec`, is refused.

The words of a text that ends the process (`sys.exit`), explains an option or is handed to what only speaks to a person do nothing: no
figure comes of them.
"""

import ast
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = "speedgrid"
# Decorators that do nothing else when a module is imported: any other one may note the function somewhere, from where it is called.
PLAIN_DECORATORS = {"dataclass", "cache", "lru_cache", "contextmanager"}
PLAIN_IN_CLASSES = PLAIN_DECORATORS | {"property", "setter", "cached_property", "staticmethod", "classmethod", "abstractmethod"}
# Calls that make a value and do nothing else, by name, and those that are methods of a module.
PLAIN_CALLS = {"field", "frozenset", "dict", "list", "set", "tuple", "fromkeys", "items", "values", "join", "escape", "Path", "TypeVar"}
PLAIN_CALLS_OF = {("re", "compile")}
# Ways to reach code that cannot be read off it, as names and as attributes.
LOADERS = {"import_module", "reload", "resolve_name", "spec_from_file_location", "SourceFileLoader", "exec_module", "load_module"}
UNREADABLE_NAMES = {"exec", "eval", "globals", "locals", "__import__", *LOADERS}
UNREADABLE_ATTRIBUTES = {"__subclasses__", "__globals__", "__dict__", "run_path", "run_module", *LOADERS}
# Where the names come from that are refused: under another name they would not be seen.
OF_IMPORTS = ("importlib", "importlib.util", "importlib.machinery", "pkgutil", "runpy", "builtins")
# Without an argument it gives the names where it stands; with one those of an object, and a module that is handed on so counts whole.
NAMES_OF = "vars"
# What `sys.modules` holds are modules whose names cannot be known; asking whether one is there, or setting it, reaches nothing.
SYS, MODULES = "sys", "modules"
NAMED_IN_TEXT = re.compile(rf"{PACKAGE}(\.\w+)+")
# Code that is run in a process of its own.
IMPORTED_IN_TEXT = re.compile(rf"(?:from|import)\s+({PACKAGE}(?:\.\w+)+)")
# The same of modules that stand behind the name of the package.
IMPORTED_FROM_IT = re.compile(rf"from\s+{PACKAGE}\s+import\s+([^;\n]+)")
# A script, which is started by its file.
SCRIPT_IN_TEXT = re.compile(r"(?:.*/)?(\w+)\.py")
# Of argparse: what explains a command and its options.
EXPLAINED_BY = {"ArgumentParser": ("description", "epilog"), "add_argument": ("help",)}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
# What has names of its own.
SCOPES = (*FUNCTIONS, ast.ClassDef, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
# What only type checkers take for true, and the modules that have it.
FOR_TYPES, OF_TYPES = "TYPE_CHECKING", ("typing", "typing_extensions")
# Fields of a syntax tree that say nothing of what the code does.
IDLE_FIELDS = {"ctx", "kind", "type_comment", "type_ignores"}

# What code refers to: a module, and the name of a definition in it or one of these: all of it, what importing it does, what it does as a
# script, or the module in it whose name is in the job's specification.
Reference = tuple[str, str]
WHOLE, IMPORTED, STARTED, SPECIFIED = "*", "", "!", "?"


class Unreadable(Exception):
    """Code of the project that cannot be followed."""


@dataclass
class Unit:
    """One statement at the top of a module: a hash of what it does, and what it refers to."""

    digest: str
    refers: frozenset[Reference]
    # Whether importing the module does it, or only defines it; and whether it is done only where the module is the script that runs.
    always: bool
    as_script: bool
    # Whether it only binds what comes from elsewhere.
    imports: bool = False


@dataclass
class Module:
    """The units of a file in order, and by name the numbers of those that define it and what it stands for where it is imported."""

    units: list[Unit] = field(default_factory=list)
    defined: dict[str, list[int]] = field(default_factory=dict)
    imported: dict[str, list[Reference]] = field(default_factory=dict)

    def is_from_elsewhere(self, name: str) -> bool:
        """Whether a name stands for what another package has."""
        return name not in self.imported and all(self.units[number].imports for number in self.defined.get(name, ()))


class Code:
    """The modules of the project, each read once."""

    def __init__(self, scripts: Path, speaking: frozenset[Reference] = frozenset()):
        """`speaking` are the functions that say something to a person, and do nothing else with the text that they are given."""
        self.scripts, self.speaking = scripts, speaking
        self._paths: dict[str, Path | None] = {}
        self._modules: dict[str, Module] = {}

    def path(self, name: str) -> Path | None:
        """The file of a module; None where it is none of the project's."""
        if name not in self._paths:
            place = self.scripts.joinpath(*name.split("."))
            self._paths[name] = next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)
        return self._paths[name]

    def is_package(self, name: str) -> bool:
        path = self.path(name)
        return path is not None and path.name == "__init__.py"

    def modules_in(self, package: str) -> list[str]:
        """The names of all modules of a package."""
        at = self.path(package)
        return sorted(f"{package}.{path.stem}" for path in at.parent.glob("*.py") if path.stem != "__init__") if at else []

    def data_beside(self, name: str, text: object) -> str:
        """A hash of the file beside a module that a text names for `with_name` or `with_suffix`; empty for code and other texts."""
        at = self.path(name)
        if at is None or not isinstance(text, str) or not re.fullmatch(r"[\w-]*\.\w+", text) or text.endswith(".py"):
            return ""
        path = at.with_suffix(text) if text.startswith(".") else at.with_name(text)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""

    def module(self, name: str) -> Module:
        """A module of the project by its dotted name. Raises Unreadable where there is none, or it cannot be followed."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def imports(self, tree: ast.AST, at: str) -> Iterator[tuple[str, Reference]]:
        """The names that imports in a tree bind, with what of the project they stand for: a definition of a module, or a module, WHOLE."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if self.path(alias.name):
                        if alias.name.partition(".")[0] == PACKAGE and (not alias.asname or self.is_package(alias.name)):
                            raise Unreadable(f"{at}:{node.lineno}: write `from ... import` instead of `import {alias.name}`")
                        yield alias.asname or alias.name, (alias.name, WHOLE)
                    elif alias.name == SYS and alias.asname:
                        raise Unreadable(f"{at}:{node.lineno}: sys under another name")
            elif isinstance(node, ast.ImportFrom):
                if node.level or node.module is None:
                    raise Unreadable(f"{at}:{node.lineno}: an import by a relative name")
                if node.module == SYS and any(one.name in (MODULES, "*") for one in node.names):
                    raise Unreadable(f"{at}:{node.lineno}: what sys.modules reaches cannot be followed")
                hidden = {one.name for one in node.names if one.asname} & (UNREADABLE_NAMES | UNREADABLE_ATTRIBUTES | {NAMES_OF})
                if node.module in OF_IMPORTS and hidden:
                    raise Unreadable(f"{at}:{node.lineno}: {min(hidden)} under another name")
                for alias in node.names if self.path(node.module) else ():
                    if alias.name == "*":
                        raise Unreadable(f"{at}:{node.lineno}: an import of all names")
                    whole = f"{node.module}.{alias.name}"
                    yield alias.asname or alias.name, (whole, WHOLE) if self.path(whole) else (node.module, alias.name)

    def _read(self, name: str) -> Module:
        path = self.path(name)
        if path is None:
            raise Unreadable(f"there is no module {name}")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = [part for statement in _AsItRuns(tree).visit(tree).body for part in _parts(statement)]
        module = Module()
        for part in parts:
            # Also under a condition, as where a package may be missing.
            if not isinstance(part, (*FUNCTIONS, ast.ClassDef)):
                for bound, target in self.imports(part, str(path)):
                    module.imported.setdefault(bound, []).append(target)
        bound_here = {bound for part in parts if not _is_import(part) for bound in _binds(part)}
        for number, part in enumerate(parts):
            module.units.append(self._unit(part, name, str(path), module.imported, bound_here))
            for bound in _binds(part):
                module.defined.setdefault(bound, []).append(number)
        # Of several definitions of a name the last one counts.
        for numbers in module.defined.values():
            for place, number in enumerate(numbers[1:], 1):
                module.units[number].digest += f"-{place}" if module.units[number].digest else ""
        return module

    def _unit(self, part: ast.stmt, name: str, at: str, imported: Mapping[str, list[Reference]], bound_here: set[str]) -> Unit:
        targets = list(self.imports(part, at))
        loaded = {(where, IMPORTED) for _, (where, _) in targets}
        if _is_import(part) and targets:
            # What it stands for is found where its names are used.
            return Unit("", frozenset(loaded), always=True, as_script=False)
        known = {bound: list(found) for bound, found in imported.items()}
        for bound, target in targets:
            known.setdefault(bound, []).append(target)
        reading = _Reading(self, name, at, known, bound_here)
        digest = hashlib.sha256(reading.text(part).encode()).hexdigest()
        return Unit(digest, frozenset(reading.refers | loaded), _does_something(part), _is_for_script(part), _is_import(part))


class _AsItRuns(ast.NodeTransformer):
    """Takes out of a module what does nothing where it runs: texts and `pass` on lines of their own, what only type checkers read, and
    annotations without a value, but for those of classes, which dataclasses read."""

    def __init__(self, tree: ast.Module):
        self._for_types = _names_for_types(tree)
        self._idle = {
            one
            for scope in ast.walk(tree)
            if isinstance(scope, (ast.Module, *FUNCTIONS))
            for one in _bare(_in_scope(scope))
            if _is_idle(one, scope)
        }

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> ast.AST | None:
        node.names = [one for one in node.names if one.name not in OF_TYPES]
        return node if node.names else None

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        if node.module in OF_TYPES:
            node.names = [one for one in node.names if one.name != FOR_TYPES]
        return node if node.names else None

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        return None if node in self._idle else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        is_not = isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not)
        asked = node.test.operand if isinstance(node.test, ast.UnaryOp) and is_not else node.test
        if ast.unparse(asked) not in self._for_types:
            return node
        return node.body if is_not else node.orelse


class _Reading:
    """Writes a statement down as what it does, and gathers what it refers to meanwhile."""

    def __init__(self, code: Code, module: str, at: str, known: Mapping[str, list[Reference]], bound_here: set[str]):
        self.code, self.module, self.at, self.known, self.bound_here = code, module, at, known, bound_here
        self.refers: set[Reference] = set()
        # Nodes that were looked at together with the one that holds them.
        self._done: set[ast.AST] = set()
        # Attributes of classes, whose annotations a dataclass reads.
        self._fields: set[ast.AST] = set()

    def text(self, node: object) -> str:
        """One text for one meaning, whatever the version of Python."""
        if isinstance(node, list):
            return f"[{','.join(map(self.text, node))}]"
        if not isinstance(node, ast.AST):
            return repr(node)
        self._look_at(node)
        if isinstance(node, ast.Call) and self._speaks(node.func):
            said = ",".join(self._beside_words(one) if _is_text(one) else self.text(one) for one in node.args)
            return f"Call(func={self.text(node.func)},args=[{said}],keywords={self.text(node.keywords)})"
        if isinstance(node, ast.AnnAssign) and node not in self._fields:
            # Without a value it says no more than whose name it is.
            return f"Assign(targets=[{self.text(node.target)}],value={self.text(node.value) if node.value else ''})"
        found = []
        for name in node._fields:
            value = getattr(node, name, None)
            if name == "body" and isinstance(node, ast.ClassDef):
                value = _in_any_order(node.body)
            elif isinstance(node, ast.JoinedStr):
                # Python 3.12 puts an empty text after what is filled in.
                value = [one for one in node.values if not (isinstance(one, ast.Constant) and one.value == "")]
            elif name == "keywords" and isinstance(node, ast.Call):
                value = [one for one in node.keywords if one.arg not in EXPLAINED_BY.get(_name_of(node.func), ())]
            # What is empty is left out: a version of Python has fields that others have not.
            is_empty = value == [] or (value is None and not isinstance(node, ast.Constant))
            is_annotation = name == "returns" or (name == "annotation" and isinstance(node, ast.arg))
            if not (is_empty or is_annotation or name in IDLE_FIELDS):
                found.append(f"{name}={self.text(value)}")
        if isinstance(node, ast.Constant) and (held := self.code.data_beside(self.module, node.value)):
            found.append(f"holds={held}")
        return f"{type(node).__name__}({','.join(found)})"

    def _speaks(self, called: ast.expr) -> bool:
        """Whether a call only says what it is given, or ends the process with it."""
        if isinstance(called, ast.Name):
            return any(target in self.code.speaking for target in self.known.get(called.id, ()))
        if not (isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name)):
            return False
        of, name = called.value.id, called.attr
        return (of, name) == (SYS, "exit") or any((module, name) in self.code.speaking for module, _ in self.known.get(of, ()))

    def _beside_words(self, text: ast.expr) -> str:
        """What writing a text does: the calls in it. Its words, and the values that are put between them, are for whoever reads it."""
        return f"Said({','.join(self.text(one) for one in _outermost_calls(text))})"

    def _look_at(self, node: ast.AST) -> None:
        if isinstance(node, ast.ClassDef):
            self._fields.update(one for one in node.body if isinstance(one, ast.AnnAssign))
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load) and _is_modules(node.value):
            self._done.add(node.value)
        elif isinstance(node, ast.Compare) and all(isinstance(one, ast.In | ast.NotIn) for one in node.ops):
            self._done.update(filter(_is_modules, node.comparators))
        elif isinstance(node, ast.Call) and node.args and getattr(node.func, "id", "") == NAMES_OF:
            self._done.add(node.func)
        if isinstance(node, ast.Call) and (package := _imports_what_is_specified(node)):
            self.refers.add((package, SPECIFIED))
            self._done.add(node.func)
        elif isinstance(node, ast.Attribute):
            if node.attr in UNREADABLE_ATTRIBUTES and node not in self._done:
                raise Unreadable(f"{self.at}:{node.lineno}: what {node.attr} reaches cannot be followed")
            if _is_modules(node) and node not in self._done:
                raise Unreadable(f"{self.at}:{node.lineno}: what sys.modules reaches cannot be followed")
            if isinstance(node.value, ast.Name):
                self._done.add(node.value)
                self._refer(node.value.id, node.attr)
        elif isinstance(node, ast.Name) and node not in self._done:
            if node.id in UNREADABLE_NAMES or node.id == NAMES_OF:
                raise Unreadable(f"{self.at}:{node.lineno}: what {node.id} reaches cannot be followed")
            if node.id == SYS:
                raise Unreadable(f"{self.at}:{node.lineno}: sys as a value; what is asked of it cannot be followed")
            if any(what == WHOLE and self.code.is_package(where) for where, what in self.known.get(node.id, ())):
                raise Unreadable(f"{self.at}:{node.lineno}: a package as a value; which of {node.id} is used cannot be followed")
            self._refer(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            for text in [node.value] if NAMED_IN_TEXT.fullmatch(node.value) else _imported_in(node.value):
                self._refer_in_text(text)
            script = SCRIPT_IN_TEXT.fullmatch(node.value)
            if script and self.code.path(script[1]):
                self.refers.add((script[1], STARTED))
        elif isinstance(node, FUNCTIONS) and node.name in ("__init_subclass__", "__getattr__") and node.args.args[0].arg != "self":
            raise Unreadable(f"{self.at}:{node.lineno}: what {node.name} reaches cannot be followed")

    def _refer(self, name: str, attribute: str | None = None) -> None:
        for where, what in self.known.get(name, ()):
            if what != WHOLE or attribute is None:
                self.refers.add((where, what))
            else:
                self.refers.add((f"{where}.{attribute}", WHOLE) if self.code.path(f"{where}.{attribute}") else (where, attribute))
        if name in self.bound_here or name not in self.known:
            # A definition of this module, or what an import from elsewhere binds, if it is anything at its top.
            self.refers.add((self.module, name))

    def _refer_in_text(self, text: str) -> None:
        names = text.split(".")
        for end in range(len(names), 1, -1):
            if self.code.path(".".join(names[:end])):
                self.refers.add((".".join(names[:end]), WHOLE))
                return


def _names_for_types(tree: ast.Module) -> set[str]:
    """What a module calls typing.TYPE_CHECKING, unless it sets that name itself."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in OF_TYPES:
            found |= {one.asname or one.name for one in node.names if one.name == FOR_TYPES}
        elif isinstance(node, ast.Import):
            found |= {f"{one.asname or one.name}.{FOR_TYPES}" for one in node.names if one.name in OF_TYPES}
    set_here = {ast.unparse(node) for node in ast.walk(tree) if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del)}
    return {name for name in found if not {name, name.partition(".")[0]} & set_here}


def _bare(nodes: Iterator[ast.AST]) -> list[ast.AnnAssign]:
    """Those of them that are annotations without a value."""
    return [one for one in nodes if isinstance(one, ast.AnnAssign) and one.value is None]


def _is_idle(annotation: ast.AnnAssign, scope: ast.AST) -> bool:
    """Whether an annotation without a value does nothing there. That of a module is worked out; in a function it makes the name one of the
    function, which is idle where that binds the name in another way, too, or never uses it."""
    target = annotation.target
    if isinstance(scope, ast.Module):
        return isinstance(target, ast.Name) and not _calls_something(annotation)
    if not isinstance(target, ast.Name):
        return isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)
    bare = {one.target for one in _bare(ast.walk(scope))}
    binding = (one for one in _in_scope(scope) if one not in bare and not isinstance(getattr(one, "ctx", None), ast.Load))
    if any(_names(one) == target.id for one in binding):
        return True
    used = {_names(one) for one in ast.walk(scope) if one not in bare}
    used |= {name for one in ast.walk(scope) if isinstance(one, ast.Nonlocal) for name in one.names}
    return target.id not in used


def _names(node: ast.AST) -> str:
    """The variable that a part of a syntax tree reads or binds; empty where it is none."""
    if isinstance(node, ast.alias):
        return node.asname or node.name.partition(".")[0]
    known = {
        ast.Name: "id",
        ast.arg: "arg",
        ast.MatchAs: "name",
        ast.MatchStar: "name",
        ast.MatchMapping: "rest",
        ast.ExceptHandler: "name",
    }
    name = "name" if isinstance(node, (*FUNCTIONS, ast.ClassDef)) else known.get(type(node), "")
    return getattr(node, name, None) or "" if name else ""


def _in_scope(scope: ast.AST) -> Iterator[ast.AST]:
    """What stands in a module or function, without what is in functions and classes within it."""
    for child in ast.iter_child_nodes(scope):
        yield child
        if not isinstance(child, SCOPES):
            yield from _in_scope(child)


def _imported_in(code: str) -> list[str]:
    """The modules of the project that code in a text imports, and names behind them."""
    behind = [name for names in IMPORTED_FROM_IT.findall(code) for name in re.findall(r"\w+", names)]
    return IMPORTED_IN_TEXT.findall(code) + [f"{PACKAGE}.{name}" for name in behind]


def _in_any_order(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of a class with its methods last and by name, where nothing else there has the name of one: then their order does
    nothing."""
    methods = [one for one in body if isinstance(one, FUNCTIONS)]
    others = [one for one in body if not isinstance(one, FUNCTIONS)]
    if {one.name for one in methods} & {name for one in others for name in _binds(one)}:
        return body
    return others + sorted(methods, key=lambda one: one.name)


def _parts(statement: ast.stmt) -> list[ast.stmt]:
    """A statement, or the single names of an import, so that a new name there concerns none of the others."""
    if isinstance(statement, ast.Import):
        return [ast.copy_location(ast.Import([alias]), statement) for alias in statement.names]
    if isinstance(statement, ast.ImportFrom):
        return [ast.copy_location(ast.ImportFrom(statement.module, [alias], statement.level), statement) for alias in statement.names]
    return [statement]


def _is_import(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.Import, ast.ImportFrom))


def _binds(statement: ast.stmt) -> set[str]:
    """The names at the top of its module that a statement binds; some more where it is a compound one."""
    if isinstance(statement, (*FUNCTIONS, ast.ClassDef)):
        return {statement.name}
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
    return found


def _does_something(statement: ast.stmt) -> bool:
    """Whether importing its module does more with a statement than to define what it names."""
    if isinstance(statement, ast.ClassDef):
        return bool(statement.keywords) or not all(map(_is_plain, statement.decorator_list)) or any(map(_notes_something, statement.body))
    if isinstance(statement, FUNCTIONS):
        # Defaults are worked out where the function stands.
        defaults = [one for one in (*statement.args.defaults, *statement.args.kw_defaults) if one]
        return not all(map(_is_plain, statement.decorator_list)) or any(map(_calls_something, defaults))
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        is_named = all(isinstance(node, (ast.Name, ast.Tuple, ast.expr_context)) for target in targets for node in ast.walk(target))
        return not is_named or any(isinstance(node, ast.NamedExpr) for node in ast.walk(statement)) or _calls_something(statement)
    return not _is_import(statement)


def _notes_something(statement: ast.stmt) -> bool:
    """Whether a statement of a class does more than to define a method or an attribute: it may note a function somewhere."""
    if isinstance(statement, FUNCTIONS):
        return not all(_is_plain(decorator, PLAIN_IN_CLASSES) for decorator in statement.decorator_list)
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return not isinstance(statement, ast.ClassDef)
    return _calls_something(statement)


def _is_text(node: ast.AST) -> bool:
    """Whether it is a text that stands there, put together or one of two."""
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.Add) and (_is_text(node.left) or _is_text(node.right))
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _outermost_calls(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of an expression that may do something, those within them left out."""
    if isinstance(node, (ast.Call, ast.Await, ast.NamedExpr, ast.Yield, ast.YieldFrom)):
        yield node
    else:
        for child in ast.iter_child_nodes(node):
            yield from _outermost_calls(child)


def _calls_something(node: ast.AST) -> bool:
    """Whether more is called where something stands than what makes a plain value."""
    return any(isinstance(one, ast.Call) and not _makes_a_value(one.func) for one in _done_now(node))


def _makes_a_value(called: ast.expr) -> bool:
    of = getattr(called.value, "id", "") if isinstance(called, ast.Attribute) else ""
    return _name_of(called) in PLAIN_CALLS or (of, _name_of(called)) in PLAIN_CALLS_OF


def _done_now(node: ast.AST) -> Iterator[ast.AST]:
    """What is computed where a statement stands: all in it but what a lambda does when it is called."""
    yield node
    if not isinstance(node, ast.Lambda):
        for child in ast.iter_child_nodes(node):
            yield from _done_now(child)


def _is_plain(decorator: ast.expr, plain: set[str] = PLAIN_DECORATORS) -> bool:
    return _name_of(decorator.func if isinstance(decorator, ast.Call) else decorator) in plain


def _name_of(expression: ast.expr) -> str:
    return expression.attr if isinstance(expression, ast.Attribute) else getattr(expression, "id", "")


def _is_for_script(statement: ast.stmt) -> bool:
    """Whether it is `if __name__ == "__main__":`."""
    test = statement.test if isinstance(statement, ast.If) else None
    return isinstance(test, ast.Compare) and isinstance(test.left, ast.Name) and test.left.id == "__name__"


def _is_modules(node: ast.AST) -> bool:
    """Whether it is `sys.modules`."""
    return isinstance(node, ast.Attribute) and node.attr == MODULES and getattr(node.value, "id", "") == SYS


def _imports_what_is_specified(call: ast.Call) -> str:
    """The package of `import_module(f"package.{name}")`; empty for other calls."""
    name = _name_of(call.func)
    text = call.args[0] if name == "import_module" and len(call.args) == 1 else None
    if not (isinstance(text, ast.JoinedStr) and len(text.values) == 2 and isinstance(text.values[0], ast.Constant)):
        return ""
    package = str(text.values[0].value)
    return package[:-1] if NAMED_IN_TEXT.fullmatch(package[:-1]) and package.endswith(".") else ""
