// tests/cpp/test_inbox.cpp: nothing posted is lost or taken twice, and each sleep of the taker gets one wake
#include "inbox.h"

#include "check.h"
#include "step.h"
#include "threads.h"

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

using namespace aiobridge::core;

namespace {

/// The members are plain, so that a thread sanitizer sees whether the inbox orders the poster's writes before the
/// taker's.
struct Numbered : Node {
    int producer = 0, number = 0;
    int fates = 0; // how often it was taken, returned by close() or refused
};

std::vector<std::vector<Numbered>> nodes_of(int producers, int count) {
    std::vector<std::vector<Numbered>> nodes(static_cast<std::size_t>(producers));
    for (auto &own : nodes)
        own = std::vector<Numbered>(static_cast<std::size_t>(count));
    return nodes;
}

/// What the taker got, in the order of each producer.
class Ledger {
public:
    explicit Ledger(int producers) : taken_(static_cast<std::size_t>(producers)) {}
    Numbered &enter(Node *node) {
        auto &numbered = *static_cast<Numbered *>(node);
        CHECK(++numbered.fates == 1);
        CHECK(numbered.number == taken_[static_cast<std::size_t>(numbered.producer)]++);
        ++total_;
        return numbered;
    }
    int enter(Batch batch) {
        const int before = total_;
        while (Node *node = batch.pop())
            enter(node);
        return total_ - before;
    }
    int taken(int producer) const { return taken_[static_cast<std::size_t>(producer)]; }
    int total() const { return total_; }

private:
    std::vector<int> taken_;
    int total_ = 0;
};

TEST(one_thread_after_the_other) {
    Inbox inbox;
    Numbered first, second, third;
    CHECK(inbox.post(&first) == Posted::wake);
    CHECK(inbox.post(&second) == Posted::queued);
    CHECK(!inbox.rest()); // two wait
    Batch batch = inbox.take();
    CHECK(!batch.empty());
    CHECK(batch.pop() == &first);
    CHECK(batch.pop() == &second);
    CHECK(batch.empty() && !batch.pop());

    CHECK(inbox.post(&third) == Posted::queued); // armed since the take
    CHECK(!inbox.rest());
    CHECK(inbox.take().pop() == &third);
    CHECK(inbox.take().empty());
    CHECK(inbox.rest());
    CHECK(inbox.rest());
    CHECK(inbox.post(&first) == Posted::wake);

    CHECK(!inbox.is_closed());
    CHECK(inbox.post(&second) == Posted::queued);
    batch = inbox.close();
    CHECK(batch.pop() == &first && batch.pop() == &second && !batch.pop());
    for (int again = 0; again < 2; ++again) {
        CHECK(inbox.is_closed());
        CHECK(inbox.post(&third) == Posted::refused);
        CHECK(inbox.take().empty());
        CHECK(inbox.rest()); // nothing will come: the taker may sleep
        CHECK(inbox.close().empty());
    }
}

TEST(arming_is_a_post_of_nothing) {
    Inbox inbox;
    Numbered node;
    CHECK(inbox.arm()); // idle: the caller wakes the taker
    CHECK(!inbox.arm());
    CHECK(inbox.post(&node) == Posted::queued);
    CHECK(!inbox.arm());
    CHECK(inbox.take().pop() == &node);
    CHECK(!inbox.arm());
    CHECK(inbox.rest() && inbox.arm());
    CHECK(inbox.take().empty() && inbox.rest());
    CHECK(inbox.post(&node) == Posted::wake);
    CHECK(inbox.close().pop() == &node);
    CHECK(!inbox.arm() && inbox.is_closed());
}

TEST(closing_an_inbox_that_is_idle_or_armed_returns_nothing) {
    Inbox idle, armed;
    CHECK(idle.close().empty());
    CHECK(armed.take().empty());
    CHECK(armed.close().empty());
    Numbered node;
    CHECK(idle.post(&node) == Posted::refused && armed.post(&node) == Posted::refused);
}

/// The taker sleeps on a descriptor whenever the inbox lets it: a wake too few, and it sleeps for ever.
void many_producers(int producers, int count, bool in_step) {
    Inbox inbox;
    Signal signal;
    auto nodes = nodes_of(producers, count);
    // One for each producer that lets one node out of its hands at a time.
    const auto seen = std::make_unique<std::atomic<int>[]>(static_cast<std::size_t>(producers));
    std::atomic<int> wakes{0};
    const Crew crew(producers, [&](int producer) {
        for (int number = 0; number < count; ++number) {
            Numbered &node = nodes[static_cast<std::size_t>(producer)][static_cast<std::size_t>(number)];
            node.producer = producer;
            node.number = number;
            const Posted posted = inbox.post(&node);
            CHECK(posted != Posted::refused);
            if (posted == Posted::wake) {
                wakes.fetch_add(1, std::memory_order_relaxed);
                signal.set();
            }
            if (in_step)
                seen[static_cast<std::size_t>(producer)].wait(number);
        }
    });

    Ledger ledger(producers);
    int sleeps = 0;
    for (bool asleep = true;;) {
        if (asleep) {
            ++sleeps;
            wait_for(signal);
            signal.clear();
        }
        Batch batch = inbox.take();
        CHECK(!asleep || !batch.empty()); // woken for something
        while (Node *node = batch.pop()) {
            auto &own = seen[static_cast<std::size_t>(ledger.enter(node).producer)];
            own.fetch_add(1);
            own.notify_one();
        }
        asleep = inbox.rest();
        if (ledger.total() == producers * count)
            break;
    }
    CHECK(wakes.load() == sleeps);
    CHECK(inbox.take().empty());
}

TEST(many_producers_in_a_flood) { many_producers(8, unless_shaken(200'000), false); }

// Each waits until its node was taken, so the inbox goes to rest again and again while posts come.
TEST(many_producers_in_step) { many_producers(3, unless_shaken(20'000), true); }

TEST(every_node_is_taken_or_returned_by_close_or_refused) {
    constexpr int producers = 4, rounds = unless_shaken(500), count = 200, last_ones = 10;
    int refused_in_all = 0, returned_in_all = 0;
    for (int round = 0; round < rounds; ++round) {
        Inbox inbox;
        auto nodes = nodes_of(producers, count);
        std::vector<int> accepted(producers);
        Ledger ledger(producers);
        std::atomic<int> posted{0};
        std::atomic<bool> closing{false};
        Crew crew(producers, [&](int producer) {
            auto &own = nodes[static_cast<std::size_t>(producer)];
            bool closed = false;
            for (int number = 0; number < count; ++number) {
                Numbered &node = own[static_cast<std::size_t>(number)];
                node.producer = producer;
                node.number = number;
                if (number == count - last_ones)
                    closing.wait(false); // so that there are some to refuse
                if (inbox.post(&node) == Posted::refused) {
                    CHECK(inbox.is_closed());
                    CHECK(++node.fates == 1); // a race, if somebody else has it too
                    closed = true;
                } else {
                    CHECK(!closed); // refused once, refused for ever
                    ++accepted[static_cast<std::size_t>(producer)];
                    posted.fetch_add(1, std::memory_order_relaxed);
                }
            }
        });
        while (posted.load(std::memory_order_relaxed) < 1 + round)
            std::this_thread::yield();
        if (round % 2)
            ledger.enter(inbox.take());
        closing.store(true);
        closing.notify_all();
        returned_in_all += ledger.enter(inbox.close());
        CHECK(inbox.take().empty() && inbox.rest());
        crew.join();
        CHECK(inbox.close().empty());
        for (int producer = 0; producer < producers; ++producer) {
            CHECK(ledger.taken(producer) == accepted[static_cast<std::size_t>(producer)]);
            refused_in_all += count - ledger.taken(producer);
            for (const Numbered &node : nodes[static_cast<std::size_t>(producer)])
                CHECK(node.fates == 1);
        }
    }
    // Else the rounds have tested less than they say.
    CHECK(refused_in_all > 0 && returned_in_all > 0);
}

/// What a loop does when it was woken, or not let to sleep.
struct Taker {
    std::optional<Inbox> inbox;
    bool asleep = false;
    int taken = 0;
    void begin(Node *waiting) {
        inbox.emplace();
        inbox->take();
        asleep = false;
        taken = 0;
        if (waiting)
            inbox->post(waiting);
    }
    void take_and_rest() {
        for (Batch batch = inbox->take(); batch.pop();)
            ++taken;
        asleep = inbox->rest();
    }
};

TEST(a_post_in_the_middle_of_the_taker) {
    Numbered older, node;
    Taker taker;
    Posted posted{};
    for (Node *waiting : {static_cast<Node *>(nullptr), static_cast<Node *>(&older)}) {
        const int before = waiting ? 1 : 0;
        const auto prepare = [&] { taker.begin(waiting); };
        const auto take = [&] { taker.take_and_rest(); };
        const auto post = [&] { posted = taker.inbox->post(&node); };
        const auto verify = [&] {
            CHECK(posted != Posted::refused);
            // A wake for a taker that sleeps while something waits, and for no other.
            CHECK((posted == Posted::wake) == (taker.asleep && taker.taken == before));
            taker.take_and_rest();
            CHECK(taker.asleep && taker.taken == before + 1);
        };
        Step::through(prepare, take, post, verify);
        Step::through(prepare, post, take, verify);
    }
}

TEST(arming_in_the_middle_of_the_taker) {
    Numbered node;
    Taker taker;
    bool armed = false;
    const auto prepare = [&] { taker.begin(&node); };
    const auto take = [&] { taker.take_and_rest(); };
    const auto arm = [&] { armed = taker.inbox->arm(); };
    const auto verify = [&] {
        CHECK(taker.asleep && taker.taken == 1);
        CHECK(taker.inbox->arm() != armed); // armed now, by the one or by the other
    };
    Step::through(prepare, take, arm, verify);
    Step::through(prepare, arm, take, verify);
}

TEST(a_post_in_the_middle_of_a_close) {
    Numbered older, node;
    std::optional<Inbox> inbox;
    Posted posted{};
    Batch rest;
    const auto prepare = [&] {
        inbox.emplace();
        inbox->post(&older);
    };
    const auto close = [&] { rest = inbox->close(); };
    const auto post = [&] { posted = inbox->post(&node); };
    const auto verify = [&] {
        CHECK(rest.pop() == &older);
        CHECK(rest.pop() == (posted == Posted::refused ? nullptr : &node));
        CHECK(rest.empty() && inbox->close().empty());
    };
    Step::through(prepare, close, post, verify);
    Step::through(prepare, post, close, verify);
}

} // namespace
