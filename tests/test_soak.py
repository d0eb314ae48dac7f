"""The soak test runs, for some seconds."""

import os
import subprocess
import sys
from pathlib import Path

import native
from development import without_slowness


def test_a_few_seconds_of_it(tmp_path):
    soak, folder = Path(__file__).with_name("soak.py"), Path(native.__file__).parent
    done = subprocess.run(
        [sys.executable, "-P", soak, "--minutes", "0.06", "--native", folder],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "error"},
        cwd=tmp_path,
    )
    assert (done.returncode, without_slowness(done.stderr)) == (0, ""), done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "balanced"
    for what in ("operations", "streams", "events pushed"):
        assert f"  {what} " in done.stdout
