"""What the installed package offers to other projects, and what it refuses."""

import importlib
import importlib.metadata
import os
import shutil
import subprocess
import sys
import sysconfig
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


def test_a_subinterpreter_is_refused(run_python):
    try:
        importlib.import_module("_xxsubinterpreters")
    except ImportError:
        pytest.skip("this Python has no _xxsubinterpreters module")
    done = run_python(
        """
import _xxsubinterpreters as interpreters
interpreter = interpreters.create()
try:
    interpreters.run_string(interpreter, "import aiobridge")
except Exception as error:
    print(error)
interpreters.destroy(interpreter)
"""
    )
    assert "ImportError" in done.stdout or "does not support loading in subinterpreters" in done.stdout
    assert done.returncode == 0, done.stderr


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
