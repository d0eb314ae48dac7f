// ext/core/channel.h: the native side of a stream: a ring, its end, and the wake of its consumer
#pragma once

#include "counted.h"
#include "hooks.h"
#include "item.h"
#include "ring.h"

#include <aiobridge/c_api.h>

#include <atomic>
#include <cstdint>

struct aiobridge_stream {}; // what handles point to: the base of Channel

namespace aiobridge::core {

class Bridge;
class Runtime;
struct Stream;

/// Made on any thread, filled from any thread, emptied by the Stream that owns its consumer's end.
class Channel final : public aiobridge_stream, public Item, Counted<Channel> {
public:
    using Counted<Channel>::live;
    /// 0, or -1: no memory, -2: capacity, -3: policy.
    static int create(const aiobridge_stream_options &, Channel *&) noexcept;
    static Channel *from(aiobridge_stream *raw) noexcept { return static_cast<Channel *>(raw); }

    void retain_writer() noexcept;
    void release_writer() noexcept; // the last one closes the stream
    void retain_consumer() noexcept;
    void release_consumer() noexcept; // the last one abandons the stream

    // Any thread, without the GIL, never blocks.
    aiobridge_fate push(void *item, void *evicted) noexcept;
    bool close(aiobridge_reason reason) noexcept; // by the writer: false if it was closed before
    bool fail(const aiobridge_type *, void *error) noexcept;
    aiobridge_reason reason() const noexcept;
    int on_close(const aiobridge_hook &) noexcept;
    /// The consumer is gone, or wants no more: closes, and has the hook thread destroy what is buffered.
    void leave(aiobridge_reason reason) noexcept;

    // The consumer's, loop thread.
    void bind(Bridge &) noexcept;
    bool take(void *to) noexcept { return ring_.take(to); }
    bool ended() const noexcept { return ring_.ended(); }
    /// The consumer is about to sleep. False: something is there, or the end; look again.
    bool park() noexcept;
    /// The error that fail() left, once: null if there is none.
    const aiobridge_type *take_error(void *to) noexcept;
    std::size_t size() const noexcept { return ring_.size(); }
    std::uint64_t evicted() const noexcept { return evicted_.load(std::memory_order_relaxed); }
    std::uint64_t refused() const noexcept { return refused_.load(std::memory_order_relaxed); }
    /// True if aclose() has to wait for a hook.
    bool has_hooks() const noexcept { return hooks_.used(); }

    const aiobridge_type &type() const noexcept { return type_; }
    const aiobridge_site &site() const noexcept { return site_; }
    Runtime &runtime() const noexcept { return runtime_; }

    // Item: something is there for a parked consumer.
    int deliver(Bridge &) override;
    void discard() noexcept override;

    Stream *stream = nullptr; // GIL. Borrowed: cleared by the Stream's end
    bool had_stream = false;  // GIL

    static constexpr std::size_t error_room = 16;

private:
    explicit Channel(const aiobridge_stream_options &) noexcept;
    ~Channel();
    void release() noexcept;
    bool settle(aiobridge_reason reason) noexcept;
    void finish(aiobridge_reason reason) noexcept;
    void wake_consumer() noexcept;

    // What the consumer does, as the producers see it:
    //   quiet   it is awake, or has not come yet: it will look at the ring before it sleeps
    //   parked  it sleeps: the next event, or the end, wakes it
    //   queued  the wake is in the loop's inbox: this node is in use, and nothing is to be done
    // Seq_cst where an event and a park may cross (see Ring::put); the node is posted by the one exchange from parked
    // to queued, and free again when the drain stores quiet.
    enum class Consumer : std::uint32_t { quiet, parked, queued };

    Runtime &runtime_;
    const aiobridge_type &type_;
    Ring ring_;
    std::atomic<Consumer> consumer_{Consumer::quiet};
    std::atomic<aiobridge_reason> reason_{AIOBRIDGE_OPEN}; // the first to change it closes
    // Counts: acquire and release on the way to zero, so that the one who frees sees all that was done.
    std::atomic<std::uint32_t> references_{2}; // one for all writers, one for all consumers, one for each post
    std::atomic<std::uint32_t> writers_{1}, consumers_{1};
    Bridge *bridge_ = nullptr; // written before the consumer first parks
    const aiobridge_overflow overflow_;
    HookSet hooks_;
    std::atomic<std::uint64_t> evicted_{0}, refused_{0}; // relaxed: figures
    const aiobridge_site site_;
    const aiobridge_type *error_type_ = nullptr; // written before the ring is closed, read after its end was seen
    alignas(8) unsigned char error_[error_room];
};

} // namespace aiobridge::core
