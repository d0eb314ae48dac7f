// tests/cpp/test_waker.cpp: a signal is seen until it is cleared, and a post always reaches the loop it wakes
#include "waker.h"

#include "check.h"
#include "threads.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

using namespace aiobridge::core;

namespace {

#if defined(UNDER_THREAD_SANITIZER) || defined(UNDER_ADDRESS_SANITIZER)
constexpr int many_sets = 2'000'000;
#else
constexpr int many_sets = 10'000'000;
#endif

TEST(a_signal_is_readable_from_set_to_clear) {
    Signal signal;
    CHECK(signal.descriptor() >= 0);
    CHECK(!readable(signal));
    signal.clear(); // must not block
    CHECK(!readable(signal));
    for (int repeat = 0; repeat < 3; ++repeat) {
        signal.set();
        CHECK(readable(signal) && readable(signal)); // looking changes nothing
        signal.clear();
        CHECK(!readable(signal));
    }
}

TEST(setting_a_signal_again_changes_nothing_and_never_blocks) {
    Signal signal;
    for (int count = 0; count < many_sets; ++count)
        signal.set();
    CHECK(readable(signal));
    signal.clear();
    CHECK(!readable(signal)); // one clear for all of them
    signal.set();
    CHECK(readable(signal));
}

TEST(a_signal_that_can_take_no_more_does_not_block) {
    Signal signal;
#if defined(__linux__)
    const std::uint64_t almost_all = ~std::uint64_t{0} - 1; // an eventfd's largest count
    CHECK(::write(signal.descriptor(), &almost_all, sizeof almost_all) == sizeof almost_all);
#endif
    for (int count = 0; count < 1000; ++count)
        signal.set();
    CHECK(readable(signal));
    signal.clear();
    CHECK(!readable(signal));
}

TEST(a_signal_is_not_inherited_by_other_programs) {
    Signal signal;
    CHECK(::fcntl(signal.descriptor(), F_GETFD) & FD_CLOEXEC);
    CHECK(::fcntl(signal.descriptor(), F_GETFL) & O_NONBLOCK);
}

TEST(a_signal_closes_its_descriptor) {
    int descriptor;
    {
        Signal signal;
        descriptor = signal.descriptor();
        CHECK(::fcntl(descriptor, F_GETFD) != -1);
    }
    CHECK(::fcntl(descriptor, F_GETFD) == -1);
}

TEST(forget_lets_go_of_the_descriptor_once) {
    std::optional<Signal> signal(std::in_place);
    const int descriptor = signal->descriptor();
    signal->forget();
    CHECK(signal->descriptor() == -1);
    CHECK(::fcntl(descriptor, F_GETFD) == -1);
    // Somebody else's now: the destructor must keep off.
    const int other = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(other == descriptor); // the lowest number that is free
    signal->set();
    signal->clear();
    signal->forget();
    signal.reset();
    CHECK(::fcntl(other, F_GETFD) != -1);
    ::close(other);
}

TEST(a_signal_wakes_a_thread_that_polls) {
    constexpr int rounds = 20'000;
    Signal there, back;
    int value = 0; // handed to and fro, ordered by `turn`
    std::atomic<int> turn{0};
    const Crew crew(1, [&](int) {
        for (int round = 0; round < rounds; ++round) {
            wait_for(there);
            there.clear();
            CHECK(turn.load(std::memory_order_acquire) == 2 * round + 1);
            ++value;
            turn.fetch_add(1, std::memory_order_release);
            back.set();
        }
    });
    for (int round = 0; round < rounds; ++round) {
        CHECK(value == round);
        turn.fetch_add(1, std::memory_order_release);
        SignalWaker(there).wake();
        wait_for(back);
        back.clear();
        CHECK(turn.load(std::memory_order_acquire) == 2 * round + 2);
    }
}

/// The members are plain: a thread sanitizer sees whether the way from the post to the loop orders them.
struct Item : Node {
    int producer = 0, number = 0;
};

/// A loop's inbox, and producers that post to it and wake the loop as Bridge::post does.
class Mailbox {
public:
    void post(Node *node, Waker &waker) {
        const Posted posted = inbox_.post(node);
        CHECK(posted != Posted::refused);
        if (posted == Posted::wake) {
            wakes.fetch_add(1, std::memory_order_relaxed);
            waker.wake();
        }
    }
    /// Loop thread. As the drain: the inbox goes to rest when the batch is used up, or it is drained again.
    void drain() {
        do {
            for (Batch batch = inbox_.take(); Node *node = batch.pop();) {
                const auto *item = static_cast<Item *>(node);
                CHECK(item->number == delivered_[item->producer]++);
                ++total;
            }
        } while (!inbox_.rest());
    }

    std::atomic<int> wakes{0};
    int total = 0; // the loop thread's

    static constexpr int producers = 4, count = unless_shaken(100'000);

private:
    Inbox inbox_;
    int delivered_[producers] = {};
};

/// In bursts, with a breath between them that lets the loop fall asleep.
void produce(Mailbox &mailbox, Waker &waker, std::vector<Item> &items, int producer) {
    for (int number = 0; number < Mailbox::count; ++number) {
        Item &item = items[static_cast<std::size_t>(number)];
        item.producer = producer;
        item.number = number;
        mailbox.post(&item, waker);
        if (number % (8 << producer) == 0)
            std::this_thread::yield();
    }
}

TEST(no_wake_is_lost_from_the_inbox_to_a_loop_that_polls) {
    Signal signal;
    SignalWaker waker(signal);
    Mailbox mailbox;
    std::vector<std::vector<Item>> items(Mailbox::producers, std::vector<Item>(Mailbox::count));
    Crew crew(Mailbox::producers,
              [&](int producer) { produce(mailbox, waker, items[static_cast<std::size_t>(producer)], producer); });
    int sleeps = 0;
    while (mailbox.total < Mailbox::producers * Mailbox::count) {
        ++sleeps;
        wait_for(signal);
        // Before taking: a post that comes between the two sets it again.
        signal.clear();
        mailbox.drain();
    }
    crew.join();
    CHECK(mailbox.wakes.load() == sleeps);
    CHECK(!readable(signal));
}

/// Stands for a bridge that is woken through the notifier, and for its loop.
struct Owner {
    Owner(Service &notifier, void (*retain)(void *)) : waker(notifier, this, retain), service(notifier) {}
    static Owner &of(Node *node) { return *static_cast<Owner *>(static_cast<NotifierWaker *>(node)->owner); }
    static void retain(void *owner) {
        // Never twice: the waker posts itself again only after the notifier has taken it.
        CHECK(static_cast<Owner *>(owner)->references.fetch_add(1, std::memory_order_relaxed) == 0);
    }
    void release() { CHECK(references.fetch_sub(1, std::memory_order_relaxed) == 1); }
    /// As loop.call_soon_threadsafe does.
    void call() {
        {
            const std::lock_guard lock(mutex);
            ++calls;
        }
        called.notify_one();
    }
    int wait_for_calls() {
        std::unique_lock lock(mutex);
        called.wait(lock, [this] { return calls > 0; });
        return std::exchange(calls, 0);
    }

    NotifierWaker waker;
    Service &service;
    std::atomic<int> references{0};
    std::mutex mutex;
    std::condition_variable called;
    int calls = 0;
};

void call_owner(Node *node) {
    Owner &owner = Owner::of(node);
    CHECK(node == &owner.waker);
    owner.release();
    owner.waker.taken();
    owner.call();
}

TEST(a_notifier_waker_posts_once_for_each_wake) {
    constexpr int wakes = 20'000;
    static auto &notifier = *new Service("notify", call_owner); // never destroyed
    notifier.start();
    static auto &owner = *new Owner(notifier, Owner::retain); // its thread may still be about to return from it
    for (int count = 0; count < wakes; ++count) {
        CHECK(owner.references.load() == 0);
        owner.waker.wake();
        CHECK(owner.wait_for_calls() == 1);
    }
}

/// A notifier that only notes what it serves.
struct Notes {
    static void serve(Node *node) {
        served[count.load()] = node;
        count.fetch_add(1);
        count.notify_one();
    }
    static void wait_for(int wanted) {
        for (int now = count.load(); now < wanted; now = count.load())
            count.wait(now);
    }
    static inline Node *served[10];
    static inline std::atomic<int> count{0};
    static inline struct : Node {
    } mark; // what is posted after it by the same thread is served after it
};

TEST(a_notifier_waker_retains_before_it_posts_and_posts_no_more_until_it_is_taken) {
    static auto &notifier = *new Service("notify", Notes::serve);
    notifier.start();
    static auto &owner = *new Owner(notifier, [](void *raw) { static_cast<Owner *>(raw)->service.post(&Notes::mark); });
    owner.waker.wake();
    Notes::wait_for(2);
    CHECK(Notes::served[0] == &Notes::mark && Notes::served[1] == &owner.waker);
    owner.waker.wake(); // neither retains nor posts: the call is still to come
    owner.waker.wake();
    owner.waker.taken();
    owner.waker.wake();
    Notes::wait_for(4);
    CHECK(Notes::served[2] == &Notes::mark && Notes::served[3] == &owner.waker);
    notifier.post(&Notes::mark);
    Notes::wait_for(5);
    CHECK(Notes::served[4] == &Notes::mark); // and nothing came in between
}

/// The drain of a loop is also called without a wake: then it can rest while the waker's call is still to come.
void drain_through_the_notifier(bool without_calls_too) {
    auto &notifier = *new Service("notify", call_owner);
    notifier.start();
    auto &owner = *new Owner(notifier, Owner::retain);
    static auto &owners = *new std::vector<Owner *>; // so that they are not taken for leaks
    owners.push_back(&owner);
    Mailbox mailbox;
    std::vector<std::vector<Item>> items(Mailbox::producers, std::vector<Item>(Mailbox::count));
    Crew crew(Mailbox::producers, [&](int producer) {
        produce(mailbox, owner.waker, items[static_cast<std::size_t>(producer)], producer);
    });
    int calls = 0;
    while (mailbox.total < Mailbox::producers * Mailbox::count) {
        const int more = owner.wait_for_calls();
        CHECK(more == 1 || without_calls_too);
        calls += more;
        mailbox.drain();
        for (int drains = without_calls_too ? calls % 20 : 0; drains > 0; --drains)
            mailbox.drain();
    }
    crew.join();
    CHECK(without_calls_too ? calls <= mailbox.wakes.load() : calls == mailbox.wakes.load());
}

TEST(no_wake_is_lost_from_the_inbox_through_the_notifier_to_a_loop) { drain_through_the_notifier(false); }
TEST(no_wake_is_lost_if_the_loop_also_drains_without_a_call) { drain_through_the_notifier(true); }

} // namespace
