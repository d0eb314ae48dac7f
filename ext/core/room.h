// ext/core/room.h: where one event or error is kept on its way
#pragma once

#include <aiobridge/c_api.h>

#include <cstddef>
#include <new>

namespace aiobridge::core {

/// On the stack if it is small.
class Room {
public:
    /// `get()` is null if there was no memory.
    explicit Room(const aiobridge_type &type) noexcept {
        if (type.size <= sizeof small_ && type.align <= alignof(std::max_align_t))
            memory_ = small_;
        else
            memory_ = ::operator new(type.size, std::align_val_t(alignment_ = type.align), std::nothrow);
    }
    ~Room() {
        if (memory_ != small_)
            ::operator delete(memory_, std::align_val_t(alignment_));
    }
    Room(const Room &) = delete;
    Room &operator=(const Room &) = delete;
    void *get() noexcept { return memory_; }

private:
    alignas(std::max_align_t) unsigned char small_[256];
    void *memory_;
    std::size_t alignment_ = 1;
};

} // namespace aiobridge::core
