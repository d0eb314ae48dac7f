"""`await` at a prompt: `python -m asyncio`, and IPython."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

# What is typed, statement by statement: a future and a stream are used by later ones than those that make them.
CELLS = [
    "import aiobridge, asyncio, native",
    "future = native.add(1, 2)",
    "print('result', await future)",
    "print('results', await asyncio.gather(native.add(3, 4), native.add(5, 6)))",
    # With an await, because IPython runs its loop only for what awaits, and a stream belongs to the loop that runs.
    "writer, stream = native.make_stream(); _ = writer.push(0); print('event', await anext(stream))",
    "writer.push_from_thread(3, True)",
    "print('events', [event async for event in stream])",
    "print('closed', stream.closed, await anext(stream, 'no more'))",
    "print('loops', aiobridge.stats().loops)",
]
SAID = ["result 3", "results [7, 11]", "event 0", "events [0, 1, 2]", "closed True no more", "loops 1"]


def environment(folder, native_folder, wakeup):
    # History and profiles go to the test's own folder.
    return {
        **os.environ,
        "PYTHONPATH": native_folder,
        "AIOBRIDGE_WAKEUP": wakeup,
        "HOME": str(folder),
        "IPYTHONDIR": str(folder),
        "PYTHON_HISTORY": str(folder / "history"),
    }


def test_python_m_asyncio(tmp_path, native_folder, wakeup):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "asyncio"],
        input="\n".join([*CELLS, ""]),
        env=environment(tmp_path, native_folder, wakeup),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert [line.lstrip(">. ") for line in done.stdout.splitlines()] == [*SAID, ""]


@pytest.mark.skipif(not find_spec("IPython"), reason="IPython is not installed")
def test_ipython(tmp_path, native_folder, wakeup):
    script = f"""
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for cell in {CELLS!r}:
    shell.run_cell(cell).raise_error()
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env=environment(tmp_path, native_folder, wakeup),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == SAID
