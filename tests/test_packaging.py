"""What the installed package offers to other projects, and what it refuses."""

import configparser
import email
import faulthandler
import hashlib
import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import native
import pybind11
import pytest

import aiobridge

ROOT = Path(__file__).parent.parent


def test_the_version_is_the_same_everywhere():
    header = (Path(aiobridge.get_include()) / "aiobridge" / "version.h").read_text()
    numbers = [line.split()[-1] for line in header.splitlines() if "#define AIOBRIDGE_VERSION_" in line]
    version = ".".join(numbers)
    assert aiobridge.__version__ == version == importlib.metadata.version("aiobridge")
    cmake = Path(aiobridge.get_cmake_dir()) / "aiobridgeConfigVersion.cmake"
    assert f'set(PACKAGE_VERSION "{version}")' in cmake.read_text()
    assert f"Version: {version}" in (Path(aiobridge.get_pkgconfig_dir()) / "aiobridge.pc").read_text()


def test_every_header_is_installed():
    source, installed = ROOT / "ext" / "include", Path(aiobridge.get_include())

    def headers(folder):
        return sorted(str(file.relative_to(folder)) for file in folder.rglob("*.h"))

    assert headers(installed) == headers(source)
    assert "aiobridge/pybind11.h" in headers(installed)


def test_an_extension_built_for_a_newer_abi_is_refused_at_its_first_call():
    newer = importlib.import_module("native_newer")
    with pytest.raises(
        ImportError,
        match=r"built for ABI 1\.99 and the installed aiobridge 0\.1\.0 provides ABI 1\.0; upgrade",
    ):
        newer.answer()


def test_an_extension_built_for_a_newer_abi_is_refused_at_import_where_it_asks():
    with pytest.raises(ImportError, match=r"built for ABI 1\.99 and the installed aiobridge"):
        importlib.import_module("native_newer_at_import")


def test_an_extension_without_the_runtime_is_refused(run_python):
    done = run_python(
        """
import sys
sys.modules["aiobridge"] = None
import native
"""
    )
    assert (
        "ImportError: aiobridge: this module was built for ABI 1.0 and the aiobridge package cannot be imported"
        in done.stderr
    )


COMPILER = os.environ.get("CXX") or shutil.which("c++") or "g++"
PROGRAM = """
#include <aiobridge/pybind11.h>
#include <functional>
#include <string_view>
struct Throwing {{ Throwing(Throwing &&) noexcept(false) {{}} }};
struct Plain {{ int member(aiobridge::stop_token) {{ return 1; }} }};
void use() {{ {statement} }}
"""


def compile_program(statement, tmp_path):
    source = tmp_path / "program.cpp"
    source.write_text(PROGRAM.format(statement=statement))
    includes = [aiobridge.get_include(), pybind11.get_include(), sysconfig.get_path("include")]
    command = [COMPILER, "-std=c++20", "-fsyntax-only", *(f"-I{folder}" for folder in includes), str(source)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        ("aiobridge::make_promise<pybind11::object>();", "a Python object cannot be a payload"),
        ("aiobridge::make_stream<pybind11::dict>();", "a Python object cannot be a payload"),
        ("aiobridge::make_promise<PyObject *>();", "a Python object cannot be a payload"),
        ("aiobridge::make_promise<Throwing>();", "needs a noexcept move constructor"),
        ("aiobridge::async([](int &) {});", "non-const reference"),
        ("aiobridge::async([](const char *) {});", "is a pointer, and nothing keeps alive"),
        ("aiobridge::async([](std::string_view) {});", "is a view, and nothing keeps alive"),
        ("aiobridge::async([](std::function<void()>) {});", "takes the GIL when a pool"),
        ("aiobridge::async([](pybind11::object) {});", "is a Python object, and the call runs without"),
        (
            "aiobridge::async([](int a) -> const int & { static int b; return b += a; });",
            "returns a reference",
        ),
        ("aiobridge::async(&Plain::member);", "a member function cannot take a stop_token"),
        ("aiobridge::callback<void(pybind11::object)>();", "is a Python object, and the call runs without"),
        ("aiobridge::callback<void(std::string_view)>();", "is a view, and nothing keeps alive"),
        ("aiobridge::callback<const int &()>();", "returns a reference"),
        ("aiobridge::stream_options<int>{.merge = [](int &, int &&) {}};", "noexcept"),
        ("aiobridge::make_promise<int>().first.on_cancel([] {});", "a hook is called with one"),
    ],
)
def test_what_cannot_work_does_not_compile_and_says_why(statement, message, tmp_path):
    done = compile_program(statement, tmp_path)
    assert done.returncode != 0
    assert message in done.stderr


def test_what_can_work_compiles(tmp_path):
    statement = """
        auto [promise, future] = aiobridge::make_promise<std::string>();
        std::function<void(std::string)> callback = [p = promise](std::string text) { p.set_value(text); };
        const auto [writer, stream] = aiobridge::make_stream<int>();
        writer.push(1);
        aiobridge::async([](aiobridge::stop_token, const std::string &text) { return text.size(); });
        aiobridge::async([](const aiobridge::stop_token &, const std::string &text) { return text.size(); })("text");
    """
    done = compile_program(statement, tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_core_headers_need_no_binding_tool(tmp_path):
    source = tmp_path / "program.cpp"
    source.write_text(
        """
#include <aiobridge/aiobridge.h>
void use() { auto [promise, future] = aiobridge::make_promise<int>(); promise.set_value(1); }
"""
    )
    includes = [aiobridge.get_include(), sysconfig.get_path("include")]
    command = [COMPILER, "-std=c++20", "-fsyntax-only", *(f"-I{folder}" for folder in includes), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr


def test_the_c_header_is_c(tmp_path):
    compiler = os.environ.get("CC") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    source = tmp_path / "program.c"
    source.write_text(
        "#include <aiobridge/c_api.h>\nunsigned use(const aiobridge_api *api) { return api->struct_size; }\n"
    )
    command = [
        compiler,
        "-std=c99",
        "-pedantic",
        "-Wall",
        "-Werror",
        "-fsyntax-only",
        f"-I{aiobridge.get_include()}",
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr


def test_an_older_language_is_refused_with_a_sentence(tmp_path):
    source = tmp_path / "program.cpp"
    source.write_text("#include <aiobridge/aiobridge.h>\n")
    command = [COMPILER, "-std=c++17", "-fsyntax-only", f"-I{aiobridge.get_include()}", str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert "aiobridge needs C++20" in done.stderr


def test_the_native_test_module_is_this_runs():
    assert native.__file__.startswith(tuple(sys.path))


# What lies about in a checkout that is worked in.
LITTER = (
    ".venv/lib/left.py",
    ".pytest_cache/left",
    ".mypy_cache/left.json",
    "build/left.o",
    "dist/left.whl",
    "aiobridge/__pycache__/left.cpython-311.pyc",
    "aiobridge/_core.cpython-311-x86_64-linux-gnu.so",
    "aiobridge.egg-info/PKG-INFO",
    "examples/cpp_extension/.venv/lib/left.py",
    "examples/cpp_extension/.pytest_cache/left",
    "examples/cpp_extension/build/left.o",
    "tests/__pycache__/left.cpython-311.pyc",
)


@pytest.fixture(scope="session")
def sources():
    """The files of this repository, with those that were not added yet."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout, so what belongs to it cannot be told from what does not")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(name for name in names if name and (ROOT / name).is_file())


@pytest.fixture(scope="session")
def sdist(sources, tmp_path_factory):
    checkout, target = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("sdist")
    for name in sources:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, checkout / name)
    for name in LITTER:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("left")
    build = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    command = [sys.executable, "-P", "-c", build, str(target)]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    (file,) = target.iterdir()
    return file


@pytest.fixture(scope="session")
def wheel(sdist, pytestconfig):
    """Built from the sdist, once for each state of it. Without optimisation: only its contents are looked at."""
    state = hashlib.sha256(f"{sys.version} {sys.executable}".encode() + sdist.read_bytes()).hexdigest()[:16]
    target = pytestconfig.cache.mkdir(f"wheel-{state}")
    if not list(target.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        for setting in ("cmake.build-type=Debug", "cmake.define.CMAKE_CXX_FLAGS_DEBUG=-O0"):
            command.append(f"--config-settings={setting}")  # as in aiobridge/_building.py
        command += ["--wheel-dir", str(target), str(sdist)]
        faulthandler.cancel_dump_traceback_later()  # which pytest has set for tests that hang
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=550)
        assert done.returncode == 0, done.stdout + done.stderr
    (file,) = target.glob("*.whl")
    return file


def test_the_sdist_has_what_is_needed_to_build_and_test_and_no_more(sdist, sources):
    with tarfile.open(sdist) as archive:
        names = {member.name for member in archive.getmembers() if not member.isdir()}
    folder = sdist.name.removesuffix(".tar.gz")
    assert folder == f"aiobridge-{aiobridge.__version__}"
    assert names == {f"{folder}/{name}" for name in [*sources, "PKG-INFO"] if not name.startswith(".")}
    for needed in ("CMakeLists.txt", "LICENSE", "ext/core/module.cpp", "examples/cpp_extension/CMakeLists.txt"):
        assert f"{folder}/{needed}" in names


@pytest.mark.timeout(600)
def test_the_wheel_has_the_package_and_no_more(wheel, sources):
    suffix, version = sysconfig.get_config_var("EXT_SUFFIX"), aiobridge.__version__
    headers = [name for name in sources if name.startswith("ext/include/")]
    cmake = ["aiobridgeConfig.cmake", "aiobridgeConfigVersion.cmake", "aiobridgeTargets.cmake"]
    expected = {
        *(name for name in sources if name.startswith("aiobridge/")),
        *(name.replace("ext/", "aiobridge/", 1) for name in headers),
        *(f"aiobridge/share/cmake/aiobridge/{name}" for name in cmake),
        "aiobridge/share/pkgconfig/aiobridge.pc",
        *(f"aiobridge/share/_{name}" for name in sources if name.startswith("benchmarks/")),
        *(f"aiobridge/{module}{suffix}" for module in ("_core", "_demo")),
        *(f"aiobridge-{version}.dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt")),
        f"aiobridge-{version}.dist-info/licenses/LICENSE",
    }
    assert {"aiobridge/py.typed", "aiobridge/_core.pyi", "aiobridge/include/aiobridge/pybind11.h"} <= expected
    with zipfile.ZipFile(wheel) as archive:
        assert sorted(name for name in archive.namelist() if not name.endswith("/")) == sorted(expected)


@pytest.mark.timeout(600)
def test_the_wheel_says_what_it_is(wheel):
    with zipfile.ZipFile(wheel) as archive:
        folder = f"aiobridge-{aiobridge.__version__}.dist-info"
        metadata = email.message_from_bytes(archive.read(f"{folder}/METADATA"))
        entry_points = configparser.ConfigParser()
        entry_points.read_string(archive.read(f"{folder}/entry_points.txt").decode())
    assert (metadata["Name"], metadata["Version"]) == ("aiobridge", aiobridge.__version__)
    assert (metadata["License-Expression"], metadata["Requires-Python"]) == ("BSD-3-Clause", ">=3.11")
    assert metadata.get_all("Provides-Extra") == ["demo", "bench", "test", "test-core", "lint"]
    assert [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line] == []
    assert metadata.get_payload().startswith("# aiobridge\n")
    assert {name: dict(group) for name, group in entry_points.items() if group} == {
        "console_scripts": {"aiobridge": "aiobridge.__main__:main"},
        "pkg_config": {"aiobridge": "aiobridge.share.pkgconfig"},
    }
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert wheel.name.startswith(f"aiobridge-{aiobridge.__version__}-{python}-{python}")
