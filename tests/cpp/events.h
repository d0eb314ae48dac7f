// tests/cpp/events.h: what these tests put into rings and buffers, and how
#pragma once

#include "buffer.h"

#include <aiobridge/detail/payload.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <utility>

using aiobridge::core::Buffer;
using aiobridge::core::Counts;
using aiobridge::core::Node;
using aiobridge::detail::outgoing;
using aiobridge::detail::payload;

struct Event {
    int producer = 0, number = 0;
    int weight = 1; // how many were merged into it, with itself
};

/// An event that owns memory, and knows how many of its kind live.
class Tracked {
public:
    Tracked(int producer, int number) : event_(new Event{producer, number}) { live.fetch_add(1); }
    Tracked(Tracked &&other) noexcept : event_(std::move(other.event_)) { live.fetch_add(1); }
    Tracked &operator=(Tracked &&) = default;
    ~Tracked() { live.fetch_sub(1); }
    Event &event() const { return *event_; }
    static inline std::atomic<int> live{0};

private:
    std::unique_ptr<Event> event_;
};

inline Event &event_of(Event &event) { return event; }
inline Event &event_of(const Tracked &tracked) { return tracked.event(); }

/// Room for an event that is moved out, and then has to be taken from here.
template <class T> class Arrival {
public:
    void *get() { return room_; }
    T take() {
        T &event = *std::launder(reinterpret_cast<T *>(room_));
        T taken(std::move(event));
        event.~T();
        return taken;
    }

private:
    alignas(T) unsigned char room_[sizeof(T)];
};

template <class T>
aiobridge_stream_options options_for(aiobridge_overflow overflow, std::size_t capacity, std::size_t high = 0,
                                     std::size_t low = 0) {
    aiobridge_stream_options options{};
    options.struct_size = sizeof options;
    options.overflow = overflow;
    options.capacity = capacity;
    options.type = &payload<T>::type;
    options.high_watermark = high;
    options.low_watermark = low;
    options.merge = [](void (*)(void), void *into, void *from) {
        event_of(*static_cast<T *>(into)).weight += event_of(*static_cast<T *>(from)).weight;
    };
    return options;
}

inline bool accepted(aiobridge_fate fate) {
    return fate == AIOBRIDGE_ACCEPTED || fate == AIOBRIDGE_EVICTED_OLDEST || fate == AIOBRIDGE_MERGED;
}

/// `on_evicted` gets the event that made room. One that is refused dies here.
template <class T, class OnEvicted> Buffer::Pushed push(Buffer &buffer, T event, OnEvicted on_evicted) {
    outgoing<T> out(std::move(event));
    Arrival<T> evicted;
    const Buffer::Pushed pushed = buffer.push(out.get(), evicted.get());
    if (accepted(pushed.fate))
        out.taken();
    if (pushed.fate == AIOBRIDGE_EVICTED_OLDEST)
        on_evicted(evicted.take());
    return pushed;
}
template <class T> Buffer::Pushed push_later(Buffer &buffer, T event, std::chrono::steady_clock::time_point deadline) {
    outgoing<T> out(std::move(event));
    const Buffer::Pushed pushed = buffer.push_later(out.get(), deadline);
    if (accepted(pushed.fate))
        out.taken();
    return pushed;
}

/// One that was abandoned.
template <class T> std::optional<T> take_undelivered(Buffer &buffer) {
    Arrival<T> arrival;
    if (!buffer.take_undelivered(arrival.get()))
        return {};
    return arrival.take();
}
