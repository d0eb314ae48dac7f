// tests/cpp/test_gate.cpp: after close() nobody enters, and the one who waits sees all leave
#include "gate.h"

#include "check.h"
#include "step.h"
#include "threads.h"

#include <atomic>
#include <chrono>
#include <optional>

using namespace aiobridge::core;
using namespace std::chrono_literals;

namespace {

constexpr auto for_ever = 1h;

TEST(one_thread_after_the_other) {
    Gate gate;
    CHECK(!gate.is_closed());
    CHECK(gate.enter() && gate.enter());
    gate.close();
    CHECK(gate.is_closed());
    CHECK(!gate.enter());
    CHECK(!gate.wait_until_empty(0ms));
    gate.leave();
    CHECK(!gate.wait_until_empty(1ms)); // one stays: the wait ends all the same
    gate.leave();
    CHECK(gate.wait_until_empty(0ms));
    CHECK(gate.wait_until_empty(for_ever));
    gate.close();
    CHECK(!gate.enter() && gate.wait_until_empty(for_ever));
}

TEST(a_gate_that_nobody_entered_is_empty_at_once) {
    Gate gate;
    gate.close();
    CHECK(gate.wait_until_empty(for_ever));
}

// `interpreter` is plain: a thread sanitizer sees whether leaving and waiting order what was done inside before the
// end.
TEST(many_threads_enter_and_leave_while_it_is_closed) {
    constexpr int threads = 8, rounds = 60;
    for (int round = 0; round < rounds; ++round) {
        Gate gate;
        bool interpreter = true;
        std::atomic<int> entered{0};
        std::atomic<bool> ended{false};
        Crew crew(threads, [&](int) {
            while (gate.enter()) {
                CHECK(!ended.load());
                entered.fetch_add(1);
                entered.notify_one();
                CHECK(interpreter);
                gate.leave();
            }
            CHECK(gate.is_closed());
            for (int again = 0; again < 10; ++again)
                CHECK(!gate.enter());
        });
        for (int count = 0; count < round;) { // closed early and late
            entered.wait(count);
            count = entered.load();
        }
        gate.close();
        CHECK(gate.is_closed() && !gate.enter());
        CHECK(gate.wait_until_empty(for_ever));
        ended.store(true);
        interpreter = false;
        const int count = entered.load();
        crew.join();
        CHECK(entered.load() == count);
    }
}

TEST(the_wait_ends_when_the_last_one_leaves_and_not_before) {
    constexpr int threads = 4;
    Gate gate;
    int finished[threads] = {};
    std::atomic<int> inside{0}, may_leave{0};
    Crew crew(threads, [&](int index) {
        CHECK(gate.enter());
        inside.fetch_add(1);
        inside.notify_one();
        may_leave.wait(0);
        finished[index] = 1;
        gate.leave();
    });
    for (int count = 0; count < threads; count = inside.load())
        inside.wait(count);
    gate.close();
    CHECK(!gate.wait_until_empty(2ms));
    may_leave.store(1);
    may_leave.notify_all();
    CHECK(gate.wait_until_empty(for_ever));
    for (const int one : finished)
        CHECK(one == 1);
}

TEST(a_close_in_the_middle_of_entering_and_leaving) {
    std::optional<Gate> gate;
    bool entered = false;
    const auto prepare = [&] { gate.emplace(); };
    const auto enter = [&] { entered = gate->enter(); };
    const auto close = [&] { gate->close(); };
    const auto verify = [&] {
        CHECK(gate->is_closed());
        CHECK(gate->wait_until_empty(0ms) == !entered); // whoever came in is counted, and nobody else
        if (entered)
            gate->leave();
        CHECK(gate->wait_until_empty(0ms) && !gate->enter());
    };
    Step::through(prepare, enter, close, verify);
    Step::through(prepare, close, enter, verify);

    const auto prepare_inside = [&] {
        gate.emplace();
        CHECK(gate->enter());
        entered = false;
    };
    const auto leave = [&] { gate->leave(); };
    Step::through(prepare_inside, leave, close, verify);
    Step::through(prepare_inside, close, leave, verify);
}

} // namespace
