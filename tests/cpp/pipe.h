// tests/cpp/pipe.h: events, and what a stream's channel does with a ring of them
#pragma once

#include "ring.h"
#include "threads.h"

#include <aiobridge/detail/payload.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>

using aiobridge::core::Ring;
using aiobridge::detail::payload;

struct Event {
    int producer = 0, number = 0;
};

/// An event that owns memory, and knows how many of its kind live.
class Tracked {
public:
    Tracked(int producer, int number) : event_(new Event{producer, number}) { live.fetch_add(1); }
    Tracked(Tracked &&other) noexcept : event_(std::move(other.event_)) { live.fetch_add(1); }
    Tracked &operator=(Tracked &&) = default;
    ~Tracked() { live.fetch_sub(1); }
    const Event &event() const { return *event_; }
    static inline std::atomic<int> live{0};

private:
    std::unique_ptr<Event> event_;
};

inline const Event &event_of(const Event &event) { return event; }
inline const Event &event_of(const Tracked &tracked) { return tracked.event(); }

template <class T> Ring::Put put(Ring &ring, T &&event) {
    using Payload = std::decay_t<T>;
    aiobridge::detail::outgoing<Payload> out{Payload(std::forward<T>(event))};
    const Ring::Put result = ring.put(out.get());
    if (result == Ring::Put::done)
        out.taken();
    return result;
}

template <class T> std::optional<T> take(Ring &ring) {
    alignas(T) unsigned char room[sizeof(T)];
    if (!ring.take(room))
        return {};
    T &event = *std::launder(reinterpret_cast<T *>(room));
    std::optional<T> taken(std::move(event));
    event.~T();
    return taken;
}

/// What a Channel does with its ring, with a descriptor in place of the loop's inbox.
template <class T> class Pipe {
public:
    explicit Pipe(int capacity) : ring(static_cast<std::size_t>(capacity), payload<T>::type) {}

    /// Drops the oldest if there is no room: `on_evicted` is told. False: the pipe is closed.
    template <class OnEvicted> bool push(T event, OnEvicted on_evicted) {
        return push_or(std::move(event), [&] {
            const std::optional<T> evicted = take<T>(ring);
            if (evicted)
                on_evicted(*evicted);
            return evicted.has_value();
        });
    }
    /// Waits for room. False: the pipe is closed.
    bool push(T event) {
        return push_or(std::move(event), [] { return false; });
    }
    void close() {
        ring.close();
        wake_consumer();
    }
    /// The consumer. Sleeps until something is there; nothing at the end.
    std::optional<T> next() {
        for (;;) {
            if (std::optional<T> event = take<T>(ring))
                return event;
            if (ring.ended())
                return {};
            if (!park())
                continue;
            wait_for(signal_);
            signal_.clear();
            consumer_.store(Consumer::quiet, std::memory_order_seq_cst);
        }
    }

    /// The consumer is about to sleep. False: something is there, or the end.
    bool park() {
        Consumer expected = Consumer::quiet;
        consumer_.compare_exchange_strong(expected, Consumer::parked, std::memory_order_seq_cst);
        if (!ring.readable() && !ring.ended())
            return true;
        expected = Consumer::parked;
        consumer_.compare_exchange_strong(expected, Consumer::quiet, std::memory_order_seq_cst);
        return false;
    }
    void wake_consumer() {
        if (consumer_.load(std::memory_order_seq_cst) != Consumer::parked)
            return;
        Consumer expected = Consumer::parked;
        if (!consumer_.compare_exchange_strong(expected, Consumer::queued, std::memory_order_seq_cst))
            return;
        signal_.set();
    }
    bool wake_is_queued() const { return consumer_.load() == Consumer::queued; }

    Ring ring;

private:
    enum class Consumer : std::uint32_t { quiet, parked, queued };

    template <class MakeRoom> bool push_or(T event, MakeRoom make_room) {
        aiobridge::detail::outgoing<T> out(std::move(event));
        for (;;) {
            const Ring::Put result = ring.put(out.get());
            if (result == Ring::Put::closed)
                return false;
            if (result == Ring::Put::done) {
                out.taken();
                wake_consumer();
                return true;
            }
            if (!make_room())
                std::this_thread::yield();
        }
    }

    std::atomic<Consumer> consumer_{Consumer::quiet};
    aiobridge::core::Signal signal_;
};
