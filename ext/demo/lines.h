// ext/demo/lines.h: the lines of a file of any size; plain C++
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

/// Calls `visit(line)` for each line of a file, without its '\n', until it answers false. Returns the number of bytes
/// read. Throws std::filesystem::filesystem_error, also for a line of more than 64 MiB: it is held in memory whole.
template <class Visit> std::int64_t visit_lines(const std::filesystem::path &path, Visit visit) {
    constexpr std::size_t chunk = 64 * 1024, max_line = 64 * 1024 * 1024;
    const auto fail = [&path](const char *what, int code) {
        throw std::filesystem::filesystem_error(what, path, std::error_code(code, std::generic_category()));
    };
    // Throws for what is no regular file. Opening a pipe, for one, would wait until somebody writes to it.
    static_cast<void>(std::filesystem::file_size(path));
    const std::unique_ptr<std::FILE, int (*)(std::FILE *)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
    if (!file)
        fail("cannot open", errno);
    std::int64_t bytes = 0;
    std::string buffer; // what was read and not visited: it begins with a line
    for (bool more = true; more;) {
        const auto kept = buffer.size(), wanted = kept + chunk; // so a long line doubles the buffer
        buffer.resize(kept + wanted);
        const auto got = std::fread(buffer.data() + kept, 1, wanted, file.get());
        if (std::ferror(file.get()))
            fail("cannot read", errno);
        buffer.resize(kept + got);
        bytes += static_cast<std::int64_t>(got);
        more = got == wanted;
        const auto complete = more ? buffer.rfind('\n') + 1 : buffer.size(); // no '\n' yet: npos + 1 is 0
        const std::string_view lines(buffer.data(), complete);
        for (std::size_t start = 0, end; start < lines.size(); start = end + 1) {
            end = std::min(lines.find('\n', start), lines.size());
            if (!visit(lines.substr(start, end - start)))
                return bytes;
        }
        buffer.erase(0, complete);
        if (buffer.size() > max_line)
            fail("line too long", EOVERFLOW);
    }
    return bytes;
}
