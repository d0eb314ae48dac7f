// ext/core/channel.cpp: the native side of a stream
#include "channel.h"

#include "bridge.h"
#include "runtime.h"
#include "stream.h"

#include <cstring>
#include <new>
#include <system_error>
#include <thread>

namespace aiobridge::core {

int Channel::create(const aiobridge_stream_options &options, Channel *&created) noexcept {
    if (options.capacity == 0 || options.capacity > std::uint64_t{1} << 31)
        return -2;
    if (options.overflow != AIOBRIDGE_REFUSE && options.overflow != AIOBRIDGE_DROP_OLDEST)
        return -3;
    created = new (std::nothrow) Channel(options);
    if (created && !created->ring_.memory()) {
        delete created;
        created = nullptr;
    }
    return created ? 0 : -1;
}

Channel::Channel(const aiobridge_stream_options &options) noexcept
    : runtime_(Runtime::current()), type_(*options.type), ring_(options.capacity, type_), overflow_(options.overflow),
      site_(options.site) {}

Channel::~Channel() {
    if (error_type_ && !(error_type_->flags & AIOBRIDGE_TYPE_TRIVIAL))
        error_type_->destroy(error_);
    if (bridge_)
        bridge_->release();
}

void Channel::release() noexcept {
    // A child process frees nothing it inherited: other threads of the parent may have been anywhere in it.
    if (runtime_.forked() || references_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    delete this;
}

void Channel::retain_writer() noexcept { writers_.fetch_add(1, std::memory_order_relaxed); }
void Channel::retain_consumer() noexcept { consumers_.fetch_add(1, std::memory_order_relaxed); }

void Channel::release_writer() noexcept {
    if (writers_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    close(AIOBRIDGE_FINISHED);
    release();
}

void Channel::release_consumer() noexcept {
    if (consumers_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    leave(AIOBRIDGE_ABANDONED);
    release();
}

aiobridge_fate Channel::push(void *item, void *evicted) noexcept {
    if (runtime_.closed())
        return AIOBRIDGE_CLOSED;
    aiobridge_fate fate = AIOBRIDGE_ACCEPTED;
    for (;;) {
        switch (ring_.put(item)) {
        case Ring::Put::done: wake_consumer(); return fate;
        case Ring::Put::closed:
            if (fate == AIOBRIDGE_EVICTED_OLDEST && !(type_.flags & AIOBRIDGE_TYPE_TRIVIAL))
                type_.destroy(evicted);
            return AIOBRIDGE_CLOSED;
        case Ring::Put::full:
        case Ring::Put::busy:
            if (overflow_ == AIOBRIDGE_REFUSE) {
                refused_.fetch_add(1, std::memory_order_relaxed);
                return AIOBRIDGE_FULL;
            }
        }
        // Drop the oldest. If another producer took the room that this makes, once more; then the one evicted before is
        // destroyed first, while we hold no slot.
        if (fate == AIOBRIDGE_EVICTED_OLDEST && !(type_.flags & AIOBRIDGE_TYPE_TRIVIAL))
            type_.destroy(evicted);
        fate = AIOBRIDGE_ACCEPTED;
        if (ring_.take(evicted)) {
            evicted_.fetch_add(1, std::memory_order_relaxed);
            fate = AIOBRIDGE_EVICTED_OLDEST;
        } else {
            // The oldest is being written, or the free slot's last event is being moved out: a few instructions of a
            // thread that may have been interrupted in them.
            std::this_thread::yield();
        }
    }
}

void Channel::wake_consumer() noexcept {
    if (consumer_.load(std::memory_order_seq_cst) != Consumer::parked)
        return;
    Consumer expected = Consumer::parked;
    if (!consumer_.compare_exchange_strong(expected, Consumer::queued, std::memory_order_seq_cst))
        return;
    references_.fetch_add(1, std::memory_order_relaxed);
    if (!bridge_->post(this))
        discard();
}

bool Channel::park() noexcept {
    Consumer expected = Consumer::quiet;
    consumer_.compare_exchange_strong(expected, Consumer::parked, std::memory_order_seq_cst);
    // If a wake is queued it comes after this, and the consumer looks again then.
    if (!ring_.readable() && !ring_.ended())
        return true;
    expected = Consumer::parked;
    consumer_.compare_exchange_strong(expected, Consumer::quiet, std::memory_order_seq_cst);
    return false;
}

int Channel::deliver(Bridge &bridge) {
    // Acquire: what the poster did; seq_cst for the order with events that are put from now on.
    consumer_.store(Consumer::quiet, std::memory_order_seq_cst);
    const int result = stream ? stream_wake(stream, bridge.may_resume) : 0;
    release();
    return result;
}

void Channel::discard() noexcept { release(); }

aiobridge_reason Channel::reason() const noexcept {
    const auto reason = reason_.load(std::memory_order_acquire);
    return reason == AIOBRIDGE_OPEN ? runtime_.closed() : reason;
}

bool Channel::settle(aiobridge_reason reason) noexcept {
    auto expected = aiobridge_reason{AIOBRIDGE_OPEN};
    return !runtime_.forked() &&
           reason_.compare_exchange_strong(expected, reason, std::memory_order_acq_rel, std::memory_order_relaxed);
}

// In this order: nothing is accepted any more, the consumer learns of it, then the hook runs.
void Channel::finish(aiobridge_reason reason) noexcept {
    ring_.close();
    wake_consumer();
    hooks_.settle(runtime_, reason);
}

bool Channel::close(aiobridge_reason reason) noexcept {
    if (!settle(reason))
        return false;
    finish(reason);
    return true;
}

bool Channel::fail(const aiobridge_type *type, void *error) noexcept {
    if (type->size > error_room || type->align > 8 || !settle(AIOBRIDGE_FAILED))
        return false;
    if (type->flags & AIOBRIDGE_TYPE_TRIVIAL)
        std::memcpy(error_, error, type->size);
    else
        type->move(error_, error);
    error_type_ = type;
    finish(AIOBRIDGE_FAILED);
    return true;
}

const aiobridge_type *Channel::take_error(void *to) noexcept {
    const auto *type = std::exchange(error_type_, nullptr);
    if (type && (type->flags & AIOBRIDGE_TYPE_TRIVIAL))
        std::memcpy(to, error_, type->size);
    else if (type)
        type->move(to, error_);
    return type;
}

void Channel::leave(aiobridge_reason reason) noexcept {
    close(reason);
    ring_.close(); // by us, if the writer that closes first has not come that far: nothing is discarded from an open
                   // ring
    if (runtime_.forked() || size() == 0)
        return;
    // What is buffered is the user's, and so are its destructors: not here, perhaps on the loop's thread or in a
    // finalizer. Without a hook thread it stays until the last handle is gone.
    references_.fetch_add(1, std::memory_order_relaxed);
    const aiobridge_hook discard_buffered{
        sizeof(aiobridge_hook), 0,
        [](void *channel, aiobridge_reason) { static_cast<Channel *>(channel)->ring_.discard(); },
        [](void *channel) { static_cast<Channel *>(channel)->release(); }, this};
    Hook *hook = nullptr;
    try {
        runtime_.hooks.start();
        hook = Hook::create(discard_buffered);
    } catch (const std::system_error &) {
        hook = nullptr;
    }
    if (hook)
        HookSet::settle_late(runtime_, hook, reason);
    else
        release();
}

void Channel::bind(Bridge &bridge) noexcept {
    bridge.retain();
    bridge_ = &bridge;
}

int Channel::on_close(const aiobridge_hook &raw) noexcept {
    if (runtime_.forked())
        return -1;
    try {
        runtime_.hooks.start();
    } catch (const std::system_error &) {
        return -1;
    }
    Hook *hook = Hook::create(raw);
    if (!hook)
        return -1;
    if (!hooks_.add(hook)) {
        HookSet::settle_late(runtime_, hook, reason());
    }
    return 0;
}

} // namespace aiobridge::core
