// ext/core/waker.cpp: the descriptor that wakes a loop
#include "waker.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/eventfd.h>
#endif

#include <cerrno>
#include <cstdint>
#include <system_error>

namespace aiobridge::core {

Signal::Signal() {
#if defined(__linux__)
    read_ = write_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    const bool failed = read_ < 0;
#else
    int pair[2];
    const bool failed = ::socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0;
    if (!failed) {
        for (int descriptor : pair) {
            ::fcntl(descriptor, F_SETFL, O_NONBLOCK);
            ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
        }
        read_ = pair[0], write_ = pair[1];
    }
#endif
    if (failed)
        throw std::system_error(errno, std::generic_category(), "aiobridge: no descriptor for waking the loop");
}

Signal::~Signal() {
    if (read_ >= 0)
        ::close(read_);
    if (write_ >= 0 && write_ != read_)
        ::close(write_);
}

void Signal::set() noexcept {
    // An eventfd takes exactly 8 bytes; a socket any number.
    const std::uint64_t one = 1;
    const std::size_t size = read_ == write_ ? sizeof one : 1;
    // EAGAIN means it is readable already, which is all we want.
    while (::write(write_, &one, size) < 0 && errno == EINTR) {
    }
}

void Signal::clear() noexcept {
    std::uint64_t bytes[8];
    const std::size_t size = read_ == write_ ? sizeof bytes[0] : sizeof bytes;
    for (;;) {
        const auto got = ::read(read_, bytes, size);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < static_cast<ssize_t>(sizeof bytes)) // an eventfd is empty after one read
            return;
    }
}

void Signal::forget() noexcept {
    if (read_ >= 0)
        ::close(read_);
    if (write_ >= 0 && write_ != read_)
        ::close(write_);
    read_ = write_ = -1;
}

} // namespace aiobridge::core
