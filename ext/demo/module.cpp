// ext/demo/module.cpp: aiobridge._demo, a native search of text in files, the native side of `aiobridge demo`
#include "lines.h"

#include <aiobridge/pybind11.h>
#include <pybind11/stl/filesystem.h>

#include <chrono>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace py = pybind11;

namespace {

constexpr std::size_t max_text = 4096; // bytes of a line that a match carries

// What travels to Python is plain C++: it is moved and destroyed on threads that do not hold the GIL.
struct match {
    std::string file;
    std::int64_t line;
    std::string text;
};

struct file_report {
    std::int64_t bytes = 0, lines = 0, matches = 0;
};

class search {
public:
    explicit search(std::string pattern) : pattern_(std::move(pattern)) {
        if (pattern_.empty() || pattern_.find('\n') != std::string::npos)
            throw std::invalid_argument("the pattern must be text within one line: not empty, no line break");
    }

    aiobridge::stream<match> matches() const { return channel_.second; }

    void close() const { channel_.first.close(); }

    // Runs on a pool thread, without the GIL. What it throws is raised where the result is awaited.
    file_report file(const aiobridge::stop_token &stop, const std::filesystem::path &path) const {
        file_report report;
        report.bytes = visit_lines(path, [&](std::string_view line) {
            ++report.lines;
            if (line.find(pattern_) == line.npos)
                return !stop.stop_requested();
            if (line.ends_with('\r'))
                line.remove_suffix(1);
            const bool delivered = deliver(stop, {path.string(), report.lines, std::string(line.substr(0, max_text))});
            report.matches += delivered;
            return delivered;
        });
        return report;
    }

private:
    // While the stream is full, push waits for its reader. Now and then look whether this call was cancelled.
    bool deliver(const aiobridge::stop_token &stop, match found) const {
        auto fate = aiobridge::fate::timed_out;
        while (fate == aiobridge::fate::timed_out && !stop.stop_requested())
            fate = channel_.first.push(std::move(found)); // what is refused is left as it was
        return fate == aiobridge::fate::accepted;         // else closed: nobody reads any more
    }

    std::string pattern_;
    // The writer is for any thread, and the stream is for Python.
    std::pair<aiobridge::writer<match>, aiobridge::stream<match>> channel_ = aiobridge::make_stream<match>(
        {.capacity = 4096, .overflow = aiobridge::overflow::block, .timeout = std::chrono::milliseconds(20)});
};

// Files hold any bytes. A name is decoded as Python's os.fsdecode does it, so that it opens the same file again.
py::str decode_path(const std::string &bytes) {
    return py::reinterpret_steal<py::str>(PyUnicode_DecodeFSDefault(bytes.c_str()));
}
py::str decode_text(const std::string &bytes) {
    return py::reinterpret_steal<py::str>(
        PyUnicode_DecodeUTF8(bytes.data(), static_cast<py::ssize_t>(bytes.size()), "replace"));
}

// An OSError with number and path, where pybind11 by itself makes a RuntimeError.
void translate(std::exception_ptr error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::filesystem::filesystem_error &e) {
        const auto path = decode_path(e.path1().string());
        PyErr_SetObject(PyExc_OSError, py::make_tuple(e.code().value(), e.code().message(), path).ptr());
    }
}

} // namespace

PYBIND11_MODULE(_demo, m, py::mod_gil_not_used()) {
    aiobridge::init(); // an aiobridge that is missing or too old is an ImportError of this module
    py::register_local_exception_translator(&translate);
    m.attr("max_text") = max_text;

    py::class_<match>(m, "Match")
        .def_property_readonly("file", [](const match &self) { return decode_path(self.file); })
        .def_readonly("line", &match::line)
        .def_property_readonly("text", [](const match &self) { return decode_text(self.text); });
    py::class_<file_report>(m, "FileReport")
        .def_readonly("bytes", &file_report::bytes)
        .def_readonly("lines", &file_report::lines)
        .def_readonly("matches", &file_report::matches);
    py::class_<search, std::shared_ptr<search>>(m, "Search")
        .def(py::init<std::string>(), py::arg("pattern"))
        .def("matches", &search::matches)
        .def("file",
             aiobridge::async([](aiobridge::stop_token stop, std::shared_ptr<search> self, std::filesystem::path path) {
                 return self->file(stop, path);
             }),
             py::arg("path"))
        .def("close", &search::close);
}
