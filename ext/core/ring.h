// ext/core/ring.h: events in a circle of slots
#pragma once

#include "payload.h"

#include <aiobridge/c_api.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace aiobridge::core {

/// Room for so many events, made at once: putting one allocates nothing. Not synchronised; a Buffer is.
class Ring {
public:
    /// `valid()` is false if there was no memory. From calloc, so a large ring costs memory only as far as it is used.
    Ring(std::size_t capacity, const aiobridge_type &type) noexcept : capacity_(capacity), type_(type) {
        const std::size_t padding = type.align > alignof(std::max_align_t) ? type.align : 0;
        if (capacity > (SIZE_MAX - padding) / type.size)
            return;
        memory_ = std::calloc(1, capacity * type.size + padding);
        slots_ = static_cast<unsigned char *>(memory_);
        if (memory_ && padding)
            slots_ += padding - reinterpret_cast<std::uintptr_t>(memory_) % padding;
    }
    Ring(const Ring &) = delete;
    Ring &operator=(const Ring &) = delete;
    ~Ring() {
        for (; size_; --size_, advance())
            destroy_payload(type_, slot(first_));
        std::free(memory_);
    }
    bool valid() const noexcept { return memory_ != nullptr; }

    std::size_t capacity() const noexcept { return capacity_; }
    std::size_t size() const noexcept { return size_; }
    bool full() const noexcept { return size_ == capacity_; }

    /// Not full.
    void put(void *event) noexcept { move_payload(type_, slot(wrapped(first_ + size_++)), event); }
    /// Not empty. The oldest.
    void take(void *to) noexcept {
        move_payload(type_, to, slot(first_));
        --size_, advance();
    }
    /// Not empty.
    void *newest() noexcept { return slot(wrapped(first_ + size_ - 1)); }
    /// Of a trivial type: copies up to `limit` from an array, as many as find room side by side.
    std::size_t put_many(const void *events, std::size_t limit) noexcept {
        const std::size_t next = wrapped(first_ + size_);
        std::size_t count = next < first_ ? first_ - next : capacity_ - next;
        count = full() ? 0 : count < limit ? count : limit;
        std::memcpy(slot(next), events, count * type_.size);
        size_ += count;
        return count;
    }
    /// Of a trivial type: copies up to `limit` of the oldest to an array, as many as lie side by side.
    std::size_t take_many(void *to, std::size_t limit) noexcept {
        std::size_t count = capacity_ - first_;
        count = count < size_ ? count : size_;
        count = count < limit ? count : limit;
        std::memcpy(to, slot(first_), count * type_.size);
        size_ -= count;
        first_ = wrapped(first_ + count);
        return count;
    }
    template <class Visit> void for_each(Visit visit) const {
        for (std::size_t i = 0; i < size_; ++i)
            visit(slot(wrapped(first_ + i)));
    }

    Ring *next = nullptr; // the younger one, in an unbounded buffer

private:
    std::size_t wrapped(std::size_t index) const noexcept { return index < capacity_ ? index : index - capacity_; }
    void advance() noexcept { first_ = wrapped(first_ + 1); }
    unsigned char *slot(std::size_t index) const noexcept { return slots_ + index * type_.size; }

    const std::size_t capacity_;
    const aiobridge_type &type_;
    void *memory_ = nullptr;
    unsigned char *slots_ = nullptr;
    std::size_t first_ = 0, size_ = 0;
};

} // namespace aiobridge::core
