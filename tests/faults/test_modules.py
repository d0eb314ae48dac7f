"""The extension module where it was not meant to be: in subinterpreters, imported again, loaded from two places."""

import importlib
import shutil
from pathlib import Path

import pytest

import aiobridge

# Uses the runtime of the given package, and that of the native module.
USE = """
import asyncio, atexit, importlib, sys
import aiobridge, native
Loop = {Loop}
async def use(package):
    writer, stream = package.make_stream()
    writer.push(1)
    writer.close()
    promise, future = package.make_promise()
    promise.set_result(2)
    return await native.add(1), [event async for event in stream], await future
def works(package):
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(use(package)) == (2, [1], 2)
def forget(*names):
    for name in [name for name in sys.modules if name in names or name.startswith(names)]:
        del sys.modules[name]
assert works(aiobridge)
Future, first = aiobridge.Future, aiobridge
called_at_exit = atexit._ncallbacks()
"""


@pytest.fixture
def run(run_python, wakeup, loop_class):
    """Run a script that begins with USE."""
    return lambda script: run_python(USE.replace("{Loop}", loop_class) + script, wakeup=wakeup)


@pytest.mark.parametrize("module", ["_interpreters", "_xxsubinterpreters"])
def test_48_an_import_in_an_isolated_subinterpreter_is_an_import_error(run_python, module):
    try:
        importlib.import_module(module)
    except ImportError:
        pytest.skip(f"this Python has no {module}: it has the other one")
    done = run_python(
        f"""
import {module} as interpreters
interpreter = interpreters.create()
refused = "try:\\n import aiobridge\\nexcept ImportError as error:\\n print(error)\\nelse:\\n print('imported')"
try:
    print(interpreters.run_string(interpreter, refused) or "")
finally:
    interpreters.destroy(interpreter)
import aiobridge
"""
    )
    assert "aiobridge works in the main interpreter only" in done.stdout or "does not support loading" in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)


def test_54_reloading_the_package_or_its_extension_changes_nothing(run):
    done = run(
        """
assert importlib.reload(aiobridge) is first and works(aiobridge)
assert importlib.reload(aiobridge._core) is first._core and works(aiobridge)
assert aiobridge.Future is Future
assert atexit._ncallbacks() == called_at_exit
""",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.parametrize("names", ["'aiobridge._core'", "'aiobridge'", "'aiobridge._awaitable', 'aiobridge._scope'"])
def test_54_parts_that_were_taken_out_of_sys_modules_are_imported_again_and_are_the_same(run, names):
    done = run(
        f"""
for name in [{names}]:
    del sys.modules[name]
importlib.import_module("aiobridge._core")
import aiobridge
assert aiobridge.Future is Future
assert works(aiobridge) and works(first)
assert atexit._ncallbacks() == called_at_exit
""",
    )
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


# Fails if the package does not look whose exceptions the core raises: `except aiobridge.ClosedError` would miss them
def test_54_a_package_that_was_taken_out_of_sys_modules_as_a_whole_is_refused_and_the_first_goes_on(run):
    done = run(
        """
forget("aiobridge")
for _ in range(2):
    try:
        import aiobridge
    except ImportError as error:
        print(error)
assert works(first)
assert atexit._ncallbacks() == called_at_exit
""",
    )
    assert done.stdout.count("aiobridge was imported before in this process, and taken out of sys.modules since") == 2
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.fixture
def copies(tmp_path):
    """Two folders: one with a copy of the package, one with the same under another name."""
    package = Path(aiobridge.__file__).parent
    for folder, name in (("same", "aiobridge"), ("other", "aiobridge2")):
        ignored = shutil.ignore_patterns("include", "share", "__pycache__")
        shutil.copytree(package, tmp_path / folder / name, ignore=ignored)
    return tmp_path


def test_54_a_copy_of_the_package_in_another_folder_is_refused_and_the_first_goes_on(run, copies):
    done = run(
        f"""
forget("aiobridge")
sys.path.insert(0, {str(copies / "same")!r})
try:
    import aiobridge
except ImportError as error:
    print(error)
assert works(first)
""",
    )
    assert "aiobridge was imported before in this process" in done.stdout
    assert (done.stderr, done.returncode) == ("", 0)


def test_54_two_copies_of_the_extension_are_independent_and_each_closes_at_exit(run, copies):
    done = run(
        f"""
import gc
sys.path.insert(0, {str(copies / "other")!r})
late = []
@atexit.register
def look():  # registered after the first copy and before the second, so run between their ends
    print(late[0].push(1), late[0].close_reason(), late[1].push(1), late[1].close_reason())
import aiobridge2._core as second
assert second.Future is not Future
assert atexit._ncallbacks() == called_at_exit + 2  # ours above, and the second copy's
async def both():
    (one, stream), (two, other) = first.make_stream(), second.make_stream()
    late.extend([one, two])
    one.push(1), two.push(2)
    kept.extend([stream, other])
    results = await anext(stream), await anext(other)
    return results, first._core.stats()["loops"], second.stats()["loops"]
kept = []
assert works(first) and works(second) and works(first)
while first._core.stats()["loops"] or second.stats()["loops"]:
    # The notifiers have not let go of those yet. Or, without a GIL, they have called them while they were closed: then
    # they are garbage.
    gc.collect()
loop = asyncio.new_event_loop()
print(loop.run_until_complete(both()))
""",
    )
    assert done.stdout == "((1, 2), 1, 1)\naccepted open closed interpreter_exit\n"
    assert (done.stderr, done.returncode) == ("", 0)
