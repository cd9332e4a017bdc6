"""Small mistakes that someone might make in a module, one at a time: what `.ci/mutation.py` plants.

Left alone are annotations, docstrings, other strings, assertions, imports, `__all__`, and what is raised: a test that
holds a sentence to its every letter guards nothing.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# What each operator and each method becomes.
OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div,
    ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
METHODS = {
    "min": "max", "max": "min", "amin": "amax", "amax": "amin", "argmin": "argmax", "argmax": "argmin", "sum": "mean",
    "mean": "sum", "floor": "ceil", "ceil": "floor", "any": "all", "all": "any", "sin": "cos", "cos": "sin",
}  # fmt: skip
LEFT_ALONE = (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr)
LEFT_ALONE_FIELDS = {"annotation", "returns", "decorator_list", "bases", "type_params"}

Put = Callable[[ast.AST], None]


@dataclass(frozen=True)
class Mutant:
    """One mistake: where it is, what stood there and stands there now, and the text of the module that has it."""

    line: int
    column: int
    before: str
    after: str
    text: str

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.before}  ->  {self.after}"


def mutants(text: str) -> list[Mutant]:
    """Return all mutants of a module's text in the order of its lines; no two are the same, and none is the original.

    >>> [str(mutant) for mutant in mutants("if a < 2: b = -1")]
    ['1:0: if a < 2  ->  if not a < 2', '1:3: a < 2  ->  a <= 2', '1:7: 2  ->  3', '1:14: -1  ->  1', '1:15: 1  ->  2']
    """
    tree = ast.parse(text)
    known, found = {ast.unparse(tree)}, []
    for node, put in _places(tree):
        for new in _changes(node):
            put(new)
            mutated = ast.unparse(ast.fix_missing_locations(tree))
            put(node)
            if mutated not in known:
                known.add(mutated)
                found.append(Mutant(node.lineno, node.col_offset, _shown(node), _shown(new), mutated + "\n"))
    return sorted(found, key=lambda mutant: (mutant.line, mutant.column))


def _places(node: ast.AST) -> Iterator[tuple[Any, Put]]:
    """Expressions and statements that may be changed, each with the function that puts another one in its place."""
    if isinstance(node, LEFT_ALONE) or _is_of_no_consequence(node):
        return
    for name, value in ast.iter_fields(node):
        if name in LEFT_ALONE_FIELDS:
            continue
        for i, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or isinstance(child, LEFT_ALONE):
                continue
            if hasattr(child, "lineno"):
                yield child, _put_into_list(value, i) if isinstance(value, list) else _put_into(node, name)
            yield from _places(child)


def _put_into_list(items: list[Any], i: int) -> Put:
    return lambda new: items.__setitem__(i, new)


def _put_into(parent: ast.AST, name: str) -> Put:
    return lambda new: setattr(parent, name, new)


def _is_of_no_consequence(node: ast.AST) -> bool:
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) == "__all__"
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in the place of a node."""
    match node:
        case ast.Compare():
            for i, operator in enumerate(node.ops):
                yield _with(node, ops=[*node.ops[:i], OPERATORS[type(operator)](), *node.ops[i + 1 :]])
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp() if type(node.op) in OPERATORS:
            yield _with(node, op=OPERATORS[type(node.op)]())
        case ast.UnaryOp():
            yield node.operand
        case ast.Constant(value=bool()):
            yield _with(node, value=not node.value)
        case ast.Constant(value=int()):
            yield _with(node, value=node.value + 1)
        case ast.Constant(value=float()):
            yield _with(node, value=node.value * 2 or 1.0)
        case ast.If() | ast.While() | ast.IfExp():
            yield _with(node, test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Return(value=ast.expr()):
            yield _with(node, value=ast.Constant(None))
        case ast.Expr(value=ast.Call()):
            yield ast.copy_location(ast.Pass(), node)
        case ast.Call():
            yield from _other_calls(node)


def _other_calls(node: ast.Call) -> Iterator[ast.AST]:
    """A keyword argument is forgotten, or the opposite method is called."""
    for i, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            yield _with(node, keywords=[*node.keywords[:i], *node.keywords[i + 1 :]])
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        yield _with(node, func=_with(node.func, attr=METHODS[node.func.attr]))


def _with(node: ast.AST, **fields: Any) -> Any:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _shown(node: ast.AST) -> str:
    """The node in one line; of a statement with a body its head."""
    return ast.unparse(node).partition(":\n")[0].replace("\n", " ")
