// ext/core/channel.h: the native side of a stream: a buffer, who holds it, and the wake of its consumer
#pragma once

#include "buffer.h"
#include "counted.h"
#include "hooks.h"
#include "item.h"
#include "locked.h"
#include "roster.h"
#include "scope.h"

#include <aiobridge/c_api.h>

#include <atomic>
#include <cstdint>
#include <thread>

struct aiobridge_stream {}; // what handles point to: the base of Channel

namespace aiobridge::core {

class Bridge;
class Runtime;
struct Stream;

/// Made on any thread, filled from any thread, emptied by the Stream that owns its consumer's end.
class Channel final : public aiobridge_stream, public Item, public Roster<Channel>::Entry, Counted<Channel> {
public:
    using Counted<Channel>::live;
    /// 0, or a negative number: see stream_create of the ABI.
    static int create(const aiobridge_stream_options &, Channel *&) noexcept;
    static Channel *from(aiobridge_stream *raw) noexcept { return static_cast<Channel *>(raw); }

    void retain_writer() noexcept;
    void release_writer(bool broken) noexcept; // the last one closes the stream
    void retain_consumer() noexcept;
    void release_consumer() noexcept; // the last one abandons the stream

    // Any thread, without the GIL. Only the policy `block` waits.
    aiobridge_fate push(void *item, void *evicted) noexcept;
    /// Of a trivial type as many as there is room for; of others none.
    std::uint64_t push_some(const void *items, std::uint64_t count) noexcept;
    bool close(aiobridge_reason, Ending = Ending::plain) noexcept; // false if it was closed before
    bool fail(const aiobridge_type *, void *error) noexcept;
    bool abort(const aiobridge_type *, void *error) noexcept; // an error, or null
    aiobridge_reason reason() const noexcept;
    int on_close(const aiobridge_hook &) noexcept;
    bool ready() const noexcept { return buffer_.ready(); }
    int on_ready(const aiobridge_hook &) noexcept;
    int on_undelivered(const aiobridge_item_hook &) noexcept;
    /// GIL. Puts it into the current scope, if there is one. -1 with an error.
    int enter_scope() noexcept;
    /// The consumer is gone, or wants no more: closes, and has the hook thread take care of what is buffered.
    void leave(aiobridge_reason reason) noexcept;
    /// All zero in a child process.
    Counts counts() noexcept;

    // The consumer's, loop thread. Not in a child process.
    void bind(Bridge &) noexcept;
    bool take(void *to) noexcept { return take_many(to, 1) != 0; }
    std::size_t take_many(void *to, std::size_t limit) noexcept;
    bool ended() noexcept { return buffer_.ended(); }
    bool park(std::size_t wanted) noexcept { return buffer_.park(wanted); }
    Ending take_ending(void *to, const aiobridge_type *&error) noexcept { return buffer_.take_ending(to, error); }
    std::size_t capacity() const noexcept { return buffer_.capacity(); }
    std::size_t high_watermark() const noexcept { return buffer_.high_watermark(); }
    /// Zero in a child process.
    std::size_t size() noexcept;
    /// As Buffer's. Not in a child process.
    template <class Visit> void for_each(Visit visit) { buffer_.for_each(visit); }
    /// True if the hook thread has something to do for a channel that was left.
    bool has_hooks() noexcept { return hooks_.used() || counts().undelivered; }

    const aiobridge_type &type() const noexcept { return type_; }
    const aiobridge_site &site() const noexcept { return site_; }
    Runtime &runtime() const noexcept { return runtime_; }

    // Item: something is there for a parked consumer.
    int deliver(Bridge &) override;
    void discard() noexcept override;

    // The roster's: a reference, unless the last one is gone.
    bool try_retain() noexcept;
    void release() noexcept;

    Borrowed<Stream> stream;

private:
    class Undelivered;

    explicit Channel(const aiobridge_stream_options &) noexcept;
    ~Channel();
    aiobridge_fate found_full(void *item) noexcept;
    aiobridge_fate block(void *item) noexcept;
    bool consumer_runs_here() const noexcept;
    bool finish(const Buffer::Closed &, aiobridge_reason reason) noexcept;
    void abandon() noexcept;
    void drop_error() noexcept;
    void hand_over_undelivered() noexcept;
    void wake_consumer() noexcept;
    void native_side_lets_go() noexcept;
    void count_end(Hook &) noexcept;
    PyObject *describe() noexcept;

    Runtime &runtime_;
    const aiobridge_type &type_;
    Buffer buffer_;
    // Counts: acquire and release on the way to zero, so that the one who frees sees all that was done.
    std::atomic<std::uint32_t> references_{2}; // one for all writers, one for all consumers, one for each post
    std::atomic<std::uint32_t> writers_{1}, consumers_{1};
    std::atomic<Bridge *> bridge_{nullptr}; // once. Release and acquire: what it points to
    const std::thread::id maker_ = std::this_thread::get_id();
    const aiobridge_overflow overflow_;
    const std::uint64_t timeout_;
    HookSet hooks_;
    OpenEnds ends_;
    std::atomic<bool> let_go_{false};                 // relaxed: once
    std::atomic<Undelivered *> undelivered_{nullptr}; // owned; taken by the hook thread
    const aiobridge_site site_;
};

} // namespace aiobridge::core
