// aiobridge/stream.h: many events, later: writer<T> on the native side, stream<T> on its way to Python
#pragma once

#include <aiobridge/detail/handle.h>
#include <aiobridge/detail/hook.h>
#include <aiobridge/detail/payload.h>

#include <cstddef>
#include <exception>
#include <new>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

AIOBRIDGE_NAMESPACE_BEGIN

/// What a stream does with an event when `capacity` events wait.
enum class overflow : aiobridge_overflow {
    refuse = AIOBRIDGE_REFUSE,           ///< push answers `full`
    drop_oldest = AIOBRIDGE_DROP_OLDEST, ///< the oldest event is evicted: push answers `evicted_oldest`
};

template <class T> struct stream_options {
    std::size_t capacity = 1024; ///< events, at least 1
    aiobridge::overflow overflow = overflow::refuse;
};

template <class T> class writer;
template <class T> class stream;
template <class T>
std::pair<writer<T>, stream<T>> make_stream(stream_options<T> = {},
                                            std::source_location = std::source_location::current());

/// The producer's end of a stream: a small reference, copied, called and destroyed on any thread, without the GIL.
/// When the last copy goes, the stream ends after what is buffered.
template <class T> class writer {
public:
    /// Any thread. Never blocks, never takes the GIL, allocates nothing. The answer is the fate of this event; one that
    /// is not accepted is destroyed here. Events of one thread arrive in the order of their pushes.
    fate push(T event) const noexcept {
        if (!handle_)
            return fate::closed; // moved from
        detail::outgoing<T> item(std::move(event));
        alignas(T) unsigned char evicted[sizeof(T)];
        const auto result = detail::api().stream_push(handle_.get(), item.get(), evicted);
        if (result <= AIOBRIDGE_MERGED)
            item.taken();
        if (result == AIOBRIDGE_EVICTED_OLDEST)
            detail::payload<T>::destroy(evicted);
        return static_cast<fate>(result);
    }

    /// Any thread. Ends the stream after what is buffered. False if it was closed before.
    bool close() const noexcept { return detail::api().stream_close(handle_.get()) == 0; }
    /// Any thread. As close; after what is buffered, iterating raises the exception, once.
    bool fail(std::exception_ptr error) const noexcept {
        detail::outgoing<std::exception_ptr> payload(std::move(error));
        if (detail::api().stream_fail(handle_.get(), &detail::error_payload::type, payload.get()) != 0)
            return false;
        payload.taken();
        return true;
    }
    template <class E>
        requires std::is_base_of_v<std::exception, std::decay_t<E>>
    bool fail(E &&error) const noexcept {
        return fail(std::make_exception_ptr(std::forward<E>(error)));
    }

    /// Any thread. `open` while a push may be accepted.
    aiobridge::close_reason close_reason() const noexcept {
        return static_cast<aiobridge::close_reason>(detail::api().stream_reason(handle_.get()));
    }

private:
    friend std::pair<writer<T>, stream<T>> make_stream<T>(stream_options<T>, std::source_location);
    explicit writer(aiobridge_stream *stream) noexcept : handle_(stream) {}

    detail::writer_handle handle_;
};

/// The consumer's end, on its way to Python, where the binding tool's caster makes it an aiobridge.Stream: the same
/// object each time. When the last copy and the Python object are gone, the stream is closed (`abandoned`).
template <class T> class stream {
public:
    /// Runs `function(close_reason)` once the stream is closed, by either side: exactly once, soon if that has
    /// happened. It runs and is destroyed on aiobridge's hook thread, without the GIL, and may take the native
    /// library's locks; `aclose()` and leaving `async with` wait for it. Any thread. Throws std::system_error if the
    /// hook thread cannot be started.
    template <class F> void on_close(F &&function) const {
        detail::install_hook(std::forward<F>(function), [this](const aiobridge_hook &hook) {
            return detail::api().stream_on_close(handle_.get(), &hook);
        });
    }
    /// For binding headers.
    const detail::consumer_handle &handle() const noexcept { return handle_; }

private:
    friend std::pair<writer<T>, stream<T>> make_stream<T>(stream_options<T>, std::source_location);
    explicit stream(aiobridge_stream *stream) noexcept : handle_(stream) {}

    detail::consumer_handle handle_;
};

/// A writer and its stream. Any thread (the process's first use of aiobridge needs the GIL). Throws
/// std::invalid_argument for bad options, std::bad_alloc, and import_error at the first use if the runtime is missing
/// or too old.
template <class T> std::pair<writer<T>, stream<T>> make_stream(stream_options<T> options, std::source_location site) {
    static_assert(detail::check_payload<T>());
    const aiobridge_stream_options raw{sizeof(aiobridge_stream_options),
                                       static_cast<aiobridge_overflow>(options.overflow),
                                       options.capacity,
                                       &detail::payload<T>::type,
                                       {site.file_name(), site.function_name(), site.line()}};
    aiobridge_stream *created = nullptr;
    switch (detail::api().stream_create(&raw, &created)) {
    case 0: break;
    case -2:
        throw std::invalid_argument("aiobridge: make_stream: capacity is " +
                                    std::to_string(static_cast<std::ptrdiff_t>(options.capacity)) +
                                    "; a stream holds at least 1 and at most 2**31 events");
    case -3:
        throw std::invalid_argument("aiobridge: make_stream: overflow policy " + std::to_string(raw.overflow) +
                                    " is not known to aiobridge " + detail::api().version);
    default: throw std::bad_alloc();
    }
    return {writer<T>(created), stream<T>(created)};
}

AIOBRIDGE_NAMESPACE_END
