"""Everything that is public: its name, its place, its words; and the tree of exceptions."""

import inspect
import pickle
import pkgutil
import re
import shutil
import types
from pathlib import Path

import pytest

import aiobridge
from aiobridge import _exceptions

NAMES = aiobridge.__all__
CLASSES = [name for name in NAMES if isinstance(getattr(aiobridge, name), type)]
EXCEPTIONS = [name for name in CLASSES if issubclass(getattr(aiobridge, name), BaseException)]


def test_what_is_public_is_what_is_seen():
    assert dir(aiobridge) == sorted([*NAMES, "__version__"])
    assert sorted(set(NAMES)) == NAMES
    scope = {}
    exec("from aiobridge import *", scope)
    assert scope.keys() - {"__builtins__"} == set(NAMES)


def test_no_public_thing_is_left_out_of_all():
    public = {name for name, thing in vars(aiobridge).items() if name[0] != "_" and not inspect.ismodule(thing)}
    assert public == set(NAMES)


def test_modules_inside_are_private():
    assert [module.name for module in pkgutil.iter_modules(aiobridge.__path__) if module.name[0] != "_"] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_public_thing_says_that_it_is_aiobridges(name):
    thing = getattr(aiobridge, name)
    assert thing.__module__ == "aiobridge"
    assert thing.__qualname__ == thing.__name__ == name
    assert pickle.loads(pickle.dumps(thing)) is thing


def is_described(name, attribute):
    # Slots of a dataclass have no place for a docstring at run time; the source has it below each.
    return name[0] != "_" and not isinstance(attribute, types.MemberDescriptorType)


def lines_of(doc):
    return doc.strip().splitlines() if doc else []


@pytest.mark.parametrize("name", NAMES)
def test_a_public_thing_has_a_docstring_and_so_has_all_that_is_public_of_it(name):
    thing = getattr(aiobridge, name)
    inherited = inspect.getdoc(thing.__base__) if isinstance(thing, type) else None
    assert lines_of(inspect.getdoc(thing)), f"{name} has no docstring"
    assert inspect.getdoc(thing) != inherited, f"{name} has only the docstring of its base"
    if isinstance(thing, type):
        attributes = {name: attribute for name, attribute in vars(thing).items() if is_described(name, attribute)}
        assert [name for name, attribute in attributes.items() if not lines_of(inspect.getdoc(attribute))] == []


@pytest.mark.parametrize("name", NAMES)
def test_signatures_can_be_asked_for(name):
    thing = getattr(aiobridge, name)
    functions = vars(thing).values() if isinstance(thing, type) else [thing]
    for function in functions:
        if inspect.isroutine(function) and function.__name__[0] != "_":
            parameters = list(inspect.signature(function).parameters)
            assert not isinstance(thing, type) or parameters[0] == "self"


def test_generic_classes_take_parameters():
    assert aiobridge.Future[int].__origin__ is aiobridge.Future
    assert aiobridge.Stream[int].__origin__ is aiobridge.Stream


def drawn_tree():
    """Name and bases of each exception in the drawing of the module's docstring."""
    drawing = _exceptions.__doc__.partition("::\n\n")[2]
    bases, above = {}, []
    for line in drawing.splitlines():
        if not line.strip():
            continue
        found = re.fullmatch(r"([ │├└─]*)(\w+)(.*)", line)
        assert found, line
        indent, name, words = found.groups()
        while above and above[-1][0] >= len(indent):
            above.pop()
        also = re.search(r"\(also an? (\w+)\)", words)
        if above:
            bases[name] = [above[-1][1], *(also.groups() if also else ())]
        above.append((len(indent), name))
    return bases


def test_the_tree_of_exceptions_is_drawn_as_it_is():
    real = {name: [base.__name__ for base in getattr(aiobridge, name).__bases__] for name in EXCEPTIONS}
    assert drawn_tree() == real


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_an_exception_can_be_caught_by_who_does_not_know_aiobridge(name):
    exception = getattr(aiobridge, name)
    assert issubclass(exception, aiobridge.BridgeError)
    assert issubclass(exception, RuntimeError)
    with pytest.raises(aiobridge.BridgeError, match="in words"):
        raise pickle.loads(pickle.dumps(exception("in words")))


def test_an_end_is_an_end_for_who_reads_files():
    assert issubclass(aiobridge.EndOfStream, EOFError)


def test_a_setting_that_is_refused_is_not_taken_for_a_missing_module(run_python):
    done = run_python("import aiobridge", wakeup="magic")
    assert done.stderr.endswith("ImportError: AIOBRIDGE_WAKEUP is 'magic'; it must be 'call_soon' or 'fd'\n")


def test_a_missing_module_is_explained(tmp_path, run_python):
    # As in a checkout, where nothing was compiled.
    package = tmp_path / "aiobridge"
    package.mkdir()
    for file in Path(aiobridge.__file__).parent.glob("*.py"):
        shutil.copy(file, package)
    done = run_python(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import aiobridge")
    assert "ImportError: cannot import name '_core'" in done.stderr
    assert "Was aiobridge's extension module built? `pip install .` in a checkout builds it" in done.stderr
