// ext/core/channel.cpp: the native side of a stream
#include "channel.h"

#include "bridge.h"
#include "deadline.h"
#include "pause.h"
#include "room.h"
#include "runtime.h"
#include "stream.h"

#include <memory>
#include <new>

namespace aiobridge::core {
/// The user's function for events that nobody will get. Lives and dies on the hook thread; its last hook is made with
/// it, so that letting go of it cannot fail.
class Channel::Undelivered {
public:
    static Undelivered *create(Runtime &runtime, const aiobridge_item_hook &raw) noexcept {
        auto *undelivered = new (std::nothrow) Undelivered(raw);
        const aiobridge_hook destroy{sizeof(aiobridge_hook), 0, nullptr,
                                     [](void *self) { delete static_cast<Undelivered *>(self); }, undelivered};
        if (undelivered && (undelivered->end_ = make_hook(runtime, destroy)))
            return undelivered;
        if (undelivered)
            undelivered->give_back();
        delete undelivered;
        return nullptr;
    }
    /// The user's function is the caller's again.
    void give_back() noexcept {
        raw_.destroy = [](void *) {};
    }
    void run(void *item) { raw_.run(raw_.context, item); }
    /// Any thread: it is destroyed on the hook thread.
    void let_go(Runtime &runtime) noexcept { HookSet::settle_late(runtime, end_, AIOBRIDGE_OPEN); }

private:
    explicit Undelivered(const aiobridge_item_hook &raw) noexcept : raw_(raw) {}
    ~Undelivered() { raw_.destroy(raw_.context); }
    aiobridge_item_hook raw_;
    Hook *end_ = nullptr;
};

int Channel::create(const aiobridge_stream_options &options, Channel *&created) noexcept {
    if (options.capacity == 0 || options.capacity > std::uint64_t{1} << 31)
        return -2;
    if (options.overflow > AIOBRIDGE_UNBOUNDED)
        return -3;
    if (options.overflow == AIOBRIDGE_CONFLATE && !options.merge)
        return -4;
    const auto high = options.high_watermark ? options.high_watermark : options.capacity;
    if ((high > options.capacity && options.overflow != AIOBRIDGE_UNBOUNDED) ||
        (options.low_watermark && options.low_watermark >= high))
        return -5;
    created = new (std::nothrow) Channel(options);
    if (created && !created->buffer_.valid()) {
        delete created;
        created = nullptr;
    }
    return created ? 0 : -1;
}

Channel::Channel(const aiobridge_stream_options &options) noexcept
    : runtime_(Runtime::current()), type_(*options.type), buffer_(options), overflow_(options.overflow),
      timeout_(options.timeout), site_(options.site) {
    runtime_.channels.add(*this);
}

Channel::~Channel() {
    runtime_.channels.remove(*this, [this](bool) { runtime_.past_events.add(buffer_.counts()); });
    if (Undelivered *undelivered = undelivered_.load(std::memory_order_relaxed))
        undelivered->let_go(runtime_);
    drop_error();
    if (Bridge *bridge = bridge_.load(std::memory_order_relaxed))
        bridge->release();
}

// The one that nobody has met, if there is one.
void Channel::drop_error() noexcept {
    alignas(8) unsigned char error[Buffer::error_room];
    const aiobridge_type *type = nullptr;
    buffer_.take_ending(error, type);
    if (!type)
        return;
    runtime_.drop_error(*type, error);
    // Without the GIL it waits for a drain.
    if (Bridge *bridge = bridge_.load(std::memory_order_acquire); bridge && runtime_.has_deferred())
        bridge->nudge();
}

void Channel::release() noexcept {
    // A child process frees nothing it inherited: other threads of the parent may have been anywhere in it.
    if (runtime_.forked() || references_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    delete this;
}

bool Channel::try_retain() noexcept {
    auto references = references_.load(std::memory_order_relaxed);
    while (references)
        if (references_.compare_exchange_weak(references, references + 1, std::memory_order_relaxed))
            return true;
    return false;
}

void Channel::retain_writer() noexcept { writers_.fetch_add(1, std::memory_order_relaxed); }
void Channel::retain_consumer() noexcept { consumers_.fetch_add(1, std::memory_order_relaxed); }

void Channel::release_writer(bool broken) noexcept {
    if (writers_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    AIOBRIDGE_PAUSE("channel.drop_writer");
    if (broken)
        close(AIOBRIDGE_FAILED, Ending::broken);
    else
        close(AIOBRIDGE_FINISHED);
    native_side_lets_go();
    release();
}

// It has ended the stream, or dropped its last writer, or has an on_close hook through which it is told: what remains
// is then the hook's return.
void Channel::native_side_lets_go() noexcept {
    if (!runtime_.forked() && !let_go_.exchange(true, std::memory_order_relaxed))
        ends_.close();
}

void Channel::count_end(Hook &hook) noexcept {
    ends_.open();
    references_.fetch_add(1, std::memory_order_relaxed);
    hook.tell_when_over(
        [](void *channel) {
            static_cast<Channel *>(channel)->ends_.close();
            static_cast<Channel *>(channel)->release();
        },
        this);
}

int Channel::enter_scope() noexcept {
    static const ScopedKind kind{
        [](void *channel) noexcept { static_cast<Channel *>(channel)->references_.fetch_add(1); },
        [](void *channel) noexcept { static_cast<Channel *>(channel)->release(); },
        [](void *object, PyObject *) noexcept {
            auto *channel = static_cast<Channel *>(object);
            if (const Ref stream = channel->stream.get())
                return stream_leave(as_stream(stream.get()), AIOBRIDGE_SCOPE_EXIT);
            channel->leave(AIOBRIDGE_SCOPE_EXIT);
            return 0;
        },
        [](void *channel) noexcept { return static_cast<Channel *>(channel)->describe(); },
    };
    return ends_.enter(kind, this);
}

PyObject *Channel::describe() noexcept {
    return PyUnicode_FromFormat("a stream made at %s:%u, %s", site_.file ? site_.file : "?", site_.line,
                                let_go_.load(std::memory_order_relaxed) ? "whose on_close hook has not returned"
                                                                        : "whose last writer was not dropped");
}

void Channel::release_consumer() noexcept {
    if (consumers_.fetch_sub(1, std::memory_order_acq_rel) != 1)
        return;
    AIOBRIDGE_PAUSE("channel.drop_consumer");
    leave(AIOBRIDGE_ABANDONED);
    release();
}

aiobridge_fate Channel::push(void *item, void *evicted) noexcept {
    if (runtime_.closed())
        return AIOBRIDGE_CLOSED;
    const Buffer::Pushed pushed = buffer_.push(item, evicted);
    AIOBRIDGE_PAUSE("channel.pushed");
    if (pushed.wake)
        wake_consumer();
    return pushed.fate == AIOBRIDGE_FULL ? found_full(item) : pushed.fate;
}

// Apart, so that a push that finds room saves no registers for it.
[[gnu::noinline]] aiobridge_fate Channel::found_full(void *item) noexcept {
    if (overflow_ == AIOBRIDGE_BLOCK)
        return block(item);
    if (overflow_ == AIOBRIDGE_ERROR)
        finish(buffer_.tell_of_overflow(), AIOBRIDGE_FAILED);
    return AIOBRIDGE_FULL;
}

std::uint64_t Channel::push_some(const void *items, std::uint64_t count) noexcept {
    if (!(type_.flags & AIOBRIDGE_TYPE_TRIVIAL))
        return 0;
    std::uint64_t total = 0;
    while (total < count && !runtime_.closed()) {
        const auto *next = static_cast<const unsigned char *>(items) + total * type_.size;
        const auto [put, wake] = buffer_.push_some(next, count - total);
        AIOBRIDGE_PAUSE("channel.pushed_some");
        if (wake)
            wake_consumer();
        if (!put)
            break;
        total += put;
    }
    return total;
}

// The one thread whose waiting would wait for itself: the loop's, or, before there is one, the thread that made the
// stream and is about to hand it over.
bool Channel::consumer_runs_here() const noexcept {
    const Bridge *bridge = bridge_.load(std::memory_order_acquire);
    return (bridge ? bridge->thread() : maker_) == std::this_thread::get_id();
}

aiobridge_fate Channel::block(void *item) noexcept {
    if (consumer_runs_here())
        return buffer_.refuse(AIOBRIDGE_WOULD_DEADLOCK).fate;
    Buffer::Pushed pushed;
    {
        // Whoever waits with the GIL keeps the consumer from making room.
        const WithoutGil released;
        AIOBRIDGE_PAUSE("channel.block");
        pushed = buffer_.push_later(item, deadline_after(timeout_));
        AIOBRIDGE_PAUSE("channel.unblocked");
    }
    if (pushed.wake)
        wake_consumer();
    return pushed.fate;
}

void Channel::wake_consumer() noexcept {
    references_.fetch_add(1, std::memory_order_relaxed);
    AIOBRIDGE_PAUSE("channel.wake");
    if (!bridge_.load(std::memory_order_acquire)->post(this))
        discard();
}

int Channel::deliver(Bridge &bridge) {
    AIOBRIDGE_PAUSE("channel.deliver");
    buffer_.unpark();
    AIOBRIDGE_PAUSE("channel.unparked");
    int result = 0;
    if (const Ref object = stream.get())
        result = stream_wake(as_stream(object.get()), bridge.may_resume);
    release();
    return result;
}

void Channel::discard() noexcept { release(); }

std::size_t Channel::take_many(void *to, std::size_t limit) noexcept {
    const Buffer::Taken taken = buffer_.take_many(to, limit);
    AIOBRIDGE_PAUSE("channel.taken");
    for (Batch ready(taken.ready); Node *node = ready.pop();)
        HookSet::settle_ready(runtime_, static_cast<Hook *>(node));
    return taken.count;
}

std::size_t Channel::size() noexcept { return runtime_.forked() ? 0 : buffer_.size(); }
Counts Channel::counts() noexcept { return runtime_.forked() ? Counts{} : buffer_.counts(); }

aiobridge_reason Channel::reason() const noexcept {
    const auto reason = buffer_.reason();
    return reason == AIOBRIDGE_OPEN || runtime_.forked() ? runtime_.closed() : reason;
}

// In this order: nothing is accepted any more and blocked producers are released, the consumer learns of it, then the
// hooks run.
bool Channel::finish(const Buffer::Closed &closed, aiobridge_reason reason) noexcept {
    if (!closed.done)
        return false;
    AIOBRIDGE_PAUSE("channel.closed");
    if (closed.wake)
        wake_consumer();
    for (Batch ready(closed.ready); Node *node = ready.pop();)
        HookSet::settle_late(runtime_, static_cast<Hook *>(node), reason);
    AIOBRIDGE_PAUSE("channel.settle");
    hooks_.settle(runtime_, reason);
    AIOBRIDGE_PAUSE("channel.settled");
    if (reason < AIOBRIDGE_CONSUMER_CLOSED || hooks_.used())
        native_side_lets_go();
    return true;
}

bool Channel::close(aiobridge_reason reason, Ending ending) noexcept {
    return !runtime_.forked() && finish(buffer_.close(reason, ending), reason);
}

bool Channel::fail(const aiobridge_type *type, void *error) noexcept {
    if (type->size > Buffer::error_room || type->align > 8 || runtime_.forked())
        return false;
    return finish(buffer_.fail(AIOBRIDGE_FAILED, *type, error), AIOBRIDGE_FAILED);
}

bool Channel::abort(const aiobridge_type *type, void *error) noexcept {
    if (!(type ? fail(type, error) : close(AIOBRIDGE_FAILED, Ending::aborted)))
        return false;
    AIOBRIDGE_PAUSE("channel.aborted");
    abandon();
    return true;
}

void Channel::leave(aiobridge_reason reason) noexcept {
    if (runtime_.forked())
        return;
    AIOBRIDGE_PAUSE("channel.leave");
    close(reason);
    AIOBRIDGE_PAUSE("channel.left");
    abandon();
    // Nobody will meet it, and its traceback may hold the writer. Who still asks finds the plain end.
    drop_error();
}

// What is buffered is the user's, and so are its destructors: not here, perhaps on the loop's thread or in a finalizer.
// Without a hook thread it stays until the last handle is gone.
void Channel::abandon() noexcept {
    if (!buffer_.abandon())
        return;
    AIOBRIDGE_PAUSE("channel.abandoned");
    const aiobridge_hook raw{
        sizeof(aiobridge_hook), 0,
        [](void *channel, aiobridge_reason) { static_cast<Channel *>(channel)->hand_over_undelivered(); },
        [](void *channel) { static_cast<Channel *>(channel)->release(); }, this};
    references_.fetch_add(1, std::memory_order_relaxed);
    if (Hook *hook = make_hook(runtime_, raw)) {
        count_end(*hook);
        HookSet::settle_late(runtime_, hook, reason());
    } else {
        release();
    }
}

// On the hook thread.
void Channel::hand_over_undelivered() noexcept {
    Undelivered *undelivered = undelivered_.load(std::memory_order_acquire);
    for (;;) {
        Room room(type_);
        if (!room.get() || !buffer_.take_undelivered(room.get()))
            break;
        if (undelivered)
            undelivered->run(room.get());
        destroy_payload(type_, room.get());
    }
    // Python objects among them wait for a drain to drop them.
    if (Bridge *bridge = bridge_.load(std::memory_order_acquire); bridge && runtime_.has_deferred())
        bridge->nudge();
}

void Channel::bind(Bridge &bridge) noexcept {
    bridge.retain();
    bridge_.store(&bridge, std::memory_order_release);
}

int Channel::on_close(const aiobridge_hook &raw) noexcept {
    Hook *hook = make_hook(runtime_, raw);
    if (!hook)
        return -1;
    count_end(*hook);
    AIOBRIDGE_PAUSE("channel.add_hook");
    if (!hooks_.add(hook))
        HookSet::settle_late(runtime_, hook, reason());
    return 0;
}

int Channel::on_ready(const aiobridge_hook &raw) noexcept {
    Hook *hook = make_hook(runtime_, raw);
    if (!hook)
        return -1;
    if (buffer_.wait_until_ready(hook))
        return 0;
    if (const auto why = reason())
        HookSet::settle_late(runtime_, hook, why);
    else
        HookSet::settle_ready(runtime_, hook);
    return 0;
}

int Channel::on_undelivered(const aiobridge_item_hook &raw) noexcept {
    if (undelivered_.load(std::memory_order_relaxed))
        return -2;
    Undelivered *undelivered = Undelivered::create(runtime_, raw), *none = nullptr;
    if (!undelivered)
        return -1;
    if (undelivered_.compare_exchange_strong(none, undelivered, std::memory_order_release))
        return 0;
    undelivered->give_back();
    undelivered->let_go(runtime_);
    return -2;
}

} // namespace aiobridge::core
