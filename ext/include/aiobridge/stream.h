// aiobridge/stream.h: many events, later: writer<T> on the native side, stream<T> on its way to Python
#pragma once

#include <aiobridge/detail/handle.h>
#include <aiobridge/detail/hook.h>
#include <aiobridge/detail/refused.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <source_location>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

AIOBRIDGE_NAMESPACE_BEGIN

/// What a stream does with an event when `capacity` events wait.
enum class overflow : aiobridge_overflow {
    refuse = AIOBRIDGE_REFUSE,           ///< push answers `full`
    drop_oldest = AIOBRIDGE_DROP_OLDEST, ///< the oldest event is evicted: push answers `evicted_oldest`
    drop_newest = AIOBRIDGE_DROP_NEWEST, ///< the event is not taken: push answers `dropped`
    block = AIOBRIDGE_BLOCK,             ///< push waits for room: see `timeout`
    conflate = AIOBRIDGE_CONFLATE,       ///< `merge` joins the event with the newest one: push answers `merged`
    error = AIOBRIDGE_ERROR,             ///< push answers `full`, and the stream ends with StreamOverflow
    unbounded = AIOBRIDGE_UNBOUNDED,     ///< there is always room, until memory runs out: push answers `no_memory`
};

template <class T> struct stream_options {
    /// No timeout.
    static constexpr std::chrono::nanoseconds for_ever = std::chrono::nanoseconds::max();

    std::size_t capacity = 1024; ///< events, at least 1; with `unbounded`, what it starts with
    aiobridge::overflow overflow = overflow::refuse;
    std::chrono::nanoseconds timeout = for_ever; ///< `block`: then push answers `timed_out`
    std::size_t high_watermark = 0; ///< events that make the writer not ready(); 0: `capacity`, or none if unbounded
    std::size_t low_watermark = 0;  ///< events at which it is ready() again; 0: half of `high_watermark`
    /// `conflate`: joins `from` into `into`, which waits. Called inside push, under the stream's lock: short, and no
    /// call of aiobridge from it.
    void (*merge)(T &into, T &&from) noexcept = nullptr;
};

namespace detail {
/// A timeout as the runtime takes it.
inline std::uint64_t nanoseconds_or_for_ever(std::chrono::nanoseconds timeout) noexcept {
    if (timeout == std::chrono::nanoseconds::max())
        return UINT64_MAX;
    return timeout.count() > 0 ? static_cast<std::uint64_t>(timeout.count()) : 0;
}

template <class T> void merge(void (*function)(), void *into, void *from) {
    reinterpret_cast<void (*)(T &, T &&) noexcept>(function)(*static_cast<T *>(into),
                                                             std::move(*static_cast<T *>(from)));
}
} // namespace detail

/// What became of many events.
struct pushed {
    std::size_t taken;    ///< so many of the first ones: accepted, evicted_oldest or merged
    aiobridge::fate fate; ///< of the last one that was tried: the next one, if not all are taken
};

template <class T> class writer;
template <class T> class stream;
template <class T>
std::pair<writer<T>, stream<T>> make_stream(stream_options<T> = {},
                                            std::source_location = std::source_location::current());

/// The producer's end of a stream: a small reference, copied, called and destroyed on any thread, without the GIL.
/// When the last copy goes, the stream ends after what is buffered; with BrokenStreamError, if an exception unwinds the
/// thread at that moment.
template <class T> class writer {
public:
    /// Any thread, though no signal handler. Allocates nothing, and never waits for the GIL or for the consumer (but
    /// policy `block` waits for room; it gives up the GIL meanwhile if its caller holds it, and answers
    /// `would_deadlock` on the thread of the consumer's loop). The answer is the fate of this event. One that is not
    /// accepted is left as it was, if T can be assigned without throwing, else destroyed. Events of one thread arrive
    /// in the order of their pushes.
    fate push(T &&event) const noexcept {
        if (!handle_)
            return fate::closed; // moved from
        detail::outgoing<T> item(std::move(event));
        alignas(T) unsigned char evicted[sizeof(T)];
        const auto result = detail::api().stream_push(handle_.get(), item.get(), evicted);
        if (result <= AIOBRIDGE_MERGED)
            item.taken();
        else if constexpr (std::is_nothrow_move_assignable_v<T>)
            event = std::move(*static_cast<T *>(item.get()));
        if (result == AIOBRIDGE_EVICTED_OLDEST)
            detail::payload<T>::destroy(evicted);
        return static_cast<fate>(result);
    }
    /// The same with a copy, which is made first.
    fate push(const T &event) const noexcept(std::is_nothrow_copy_constructible_v<T>) { return push(T(event)); }

    /// Any thread. Events that come together, in a packet or a block: as push of a copy of one after the other, until
    /// one is not taken or its copy throws. Those after it are not tried, and in no figure. Of a trivially copyable T
    /// at a fraction of the cost; then `events` are read under the stream's lock, so they should be in memory, not in a
    /// mapped file.
    pushed push_many(std::span<const T> events) const noexcept(std::is_nothrow_copy_constructible_v<T>) {
        pushed all{0, fate::accepted};
        while (all.taken < events.size()) {
            if constexpr (std::is_trivially_copyable_v<T>)
                if (handle_ && all.fate == fate::accepted) { // else the last one found no room
                    const auto rest = events.subspan(all.taken);
                    all = {all.taken + detail::api().stream_push_some(handle_.get(), rest.data(), rest.size()),
                           fate::accepted};
                    if (all.taken == events.size())
                        break;
                }
            // Where there is no room, the policy says what becomes of this one.
            all.fate = push(events[all.taken]);
            if (all.fate > fate::merged)
                break;
            ++all.taken;
        }
        return all;
    }

    /// Any thread. Ends the stream after what is buffered. False if it was closed before.
    bool close() const noexcept { return handle_ && detail::api().stream_close(handle_.get()) == 0; }
    /// Any thread. As close; after what is buffered, iterating raises the exception, once.
    bool fail(std::exception_ptr error) const noexcept { return end(&aiobridge_api::stream_fail, std::move(error)); }
    template <class E>
        requires std::is_base_of_v<std::exception, std::decay_t<E>>
    bool fail(E &&error) const noexcept {
        return fail(std::make_exception_ptr(std::forward<E>(error)));
    }

    /// Any thread. As fail, but what is buffered is not delivered any more. Without an exception iterating raises
    /// BrokenStreamError.
    bool abort(std::exception_ptr error) const noexcept { return end(&aiobridge_api::stream_abort, std::move(error)); }
    template <class E>
        requires std::is_base_of_v<std::exception, std::decay_t<E>>
    bool abort(E &&error) const noexcept {
        return abort(std::make_exception_ptr(std::forward<E>(error)));
    }
    bool abort() const noexcept { return handle_ && detail::api().stream_abort(handle_.get(), nullptr, nullptr) == 0; }

    /// Any thread. False from the push that reaches the high watermark until the consumer has come down to the low one.
    bool ready() const noexcept { return handle_ && detail::api().stream_ready(handle_.get()) != 0; }
    /// Runs `function(close_reason)` once, as soon as the writer is ready (with `open`) or the stream is closed, as
    /// on_close does. So a producer that finds it not ready pauses, then asks to be told:
    ///     if (!w.ready()) { sdk.pause(); w.on_ready([&sdk](auto) { sdk.resume(); }); }
    template <class F> void on_ready(F &&function) const {
        detail::install_hook(std::forward<F>(function), [this](const aiobridge_hook &hook) {
            return handle_ ? detail::api().stream_on_ready(handle_.get(), &hook) : -1;
        });
    }

    /// Any thread. `open` while a push may be accepted.
    aiobridge::close_reason close_reason() const noexcept {
        return handle_ ? static_cast<aiobridge::close_reason>(detail::api().stream_reason(handle_.get()))
                       : aiobridge::close_reason::finished;
    }

private:
    friend std::pair<writer<T>, stream<T>> make_stream<T>(stream_options<T>, std::source_location);
    explicit writer(aiobridge_stream *stream) noexcept : handle_(stream) {}

    using end_with_error = std::int32_t (*aiobridge_api::*)(aiobridge_stream *, const aiobridge_type *, void *);
    bool end(end_with_error how, std::exception_ptr error) const noexcept {
        detail::outgoing<std::exception_ptr> payload(std::move(error));
        if (!handle_ || (detail::api().*how)(handle_.get(), &detail::error_payload::type, payload.get()) != 0)
            return false;
        payload.taken();
        return true;
    }

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
    /// Calls `function(T &&)` with each event that was accepted and will not be delivered, because the consumer has
    /// left or the writer aborted. As on_close; install it before events can be lost, once. Throws std::logic_error the
    /// second time.
    template <class F> void on_undelivered(F &&function) const {
        using Function = std::decay_t<F>;
        static_assert(std::is_invocable_v<Function &, T &&>, "aiobridge: on_undelivered is called with one T &&");
        auto owned = std::make_unique<Function>(std::forward<F>(function));
        const aiobridge_item_hook hook{
            sizeof(aiobridge_item_hook), 0,
            [](void *context, void *item) {
                detail::reporting([&] { (*static_cast<Function *>(context))(std::move(*static_cast<T *>(item))); });
            },
            &detail::destroy_hook<Function>, owned.get()};
        if (const auto status = detail::api().stream_on_undelivered(handle_.get(), &hook); status == -2)
            throw std::logic_error("aiobridge: stream::on_undelivered: this stream has such a hook already");
        else if (status != 0)
            detail::throw_not_installed();
        owned.release();
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
                                       {site.file_name(), site.function_name(), site.line()},
                                       detail::nanoseconds_or_for_ever(options.timeout),
                                       options.high_watermark,
                                       options.low_watermark,
                                       options.merge ? &detail::merge<T> : nullptr,
                                       reinterpret_cast<void (*)()>(options.merge)};
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
    case -4: throw std::invalid_argument("aiobridge: make_stream: overflow::conflate needs a merge function");
    case -5:
        throw std::invalid_argument("aiobridge: make_stream: the watermarks are " +
                                    std::to_string(options.low_watermark) + " and " +
                                    std::to_string(options.high_watermark) +
                                    "; the low one must be below the high one, and that at most the capacity");
    default: throw std::bad_alloc();
    }
    return {writer<T>(created), stream<T>(created)};
}

AIOBRIDGE_NAMESPACE_END
