"""The stub says what the compiled module has: nothing else would notice when they part."""

import ast
import inspect
from pathlib import Path

import pytest

from tidegate.engine import binding

STUB = ast.parse((Path(binding.__file__).parent / "binding.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
EXTENSION_TYPES = ["Segment", "Subject", "Engine", "Meter"]


def public(names: list[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def functions(name: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in CLASSES[name].body if isinstance(node, ast.FunctionDef)}


def test_every_name_of_the_module_is_there() -> None:
    constants = {ast.unparse(node.target) for node in STUB.body if isinstance(node, ast.AnnAssign)}
    own = [name for name, value in vars(binding).items() if not inspect.ismodule(value)]
    imported = {"NamedTuple", "PolicyError", "SegmentError", "StaleSegment"}
    assert public(own) - imported == public([*CLASSES, *constants])


@pytest.mark.parametrize("name", ["Verdict", "Transition"])
def test_the_fields_of_a_tuple_are_there(name: str) -> None:
    fields = [ast.unparse(node.target) for node in CLASSES[name].body if isinstance(node, ast.AnnAssign)]
    assert getattr(binding, name)._fields == tuple(fields)


@pytest.mark.parametrize("name", EXTENSION_TYPES)
def test_every_attribute_and_parameter_of_a_type_is_there(name: str) -> None:
    compiled = getattr(binding, name)
    assert public(list(vars(compiled))) == public(list(functions(name)))
    for method, node in functions(name).items():
        found = getattr(compiled, method)
        if callable(found) and method != "__init__":
            parameters = [argument.arg for argument in (*node.args.args, *node.args.kwonlyargs)]
            assert list(inspect.signature(found).parameters) == parameters, method
