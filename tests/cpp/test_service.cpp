// tests/cpp/test_service.cpp: one named thread serves every post, in order, and sleeps without missing one
#include "service.h"

#include "check.h"
#include "step.h"
#include "threads.h"

#include <pthread.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <vector>

using namespace aiobridge::core;

namespace {

/// Calls what it carries. The members are plain: a thread sanitizer sees whether posting and serving are ordered.
struct Work : Node {
    std::function<void()> run;
    int number = 0; // for run
};

void serve(Node *node) { static_cast<Work *>(node)->run(); }

/// What a served node does last: whoever waits for it may then use the node again, or end it.
class Count {
public:
    void add() {
        value_.fetch_add(1);
        value_.notify_all();
    }
    void wait_for(int wanted) {
        for (int value = value_.load(); value < wanted; value = value_.load())
            value_.wait(value);
    }

private:
    std::atomic<int> value_{0};
};

/// Never destroyed, as a Service must not be; kept, or it would be taken for a leak.
Service &service_of(const char *name) {
    static auto &services = *new std::vector<Service *>;
    return *services.emplace_back(new Service(name, serve));
}

std::string this_thread_name() {
    char name[64];
    CHECK(pthread_getname_np(pthread_self(), name, sizeof name) == 0);
    return name;
}

TEST(the_thread_is_named_after_its_role) {
    struct {
        const char *role, *name;
    } const cases[] = {
        {"hooks", "aiobridge-hooks"},
        {"x", "aiobridge-x"},
#if defined(__linux__) // 15 characters: letters go from the front part
        {"notify", "aiobridg-notify"},
        {"fourteenletter", "-fourteenletter"},
        {"more than fourteen", "-more than four"},
#endif
    };
    for (const auto &each : cases) {
        Service &service = service_of(each.role);
        service.start();
        Count served;
        std::string name;
        Work work;
        work.run = [&] {
            name = this_thread_name();
            served.add();
        };
        service.post(&work);
        served.wait_for(1);
        CHECK(name == each.name);
    }
}

#if defined(__linux__)
int threads_named(const char *wanted) {
    int count = 0;
    for (const auto &task : std::filesystem::directory_iterator("/proc/self/task")) {
        std::string name;
        std::getline(std::ifstream(task.path() / "comm"), name);
        count += name == wanted;
    }
    return count;
}
#endif

TEST(many_threads_start_it_and_it_starts_once) {
    constexpr int threads = 8, rounds = 50;
    for (int round = 0; round < rounds; ++round) {
        Service &service = service_of("start");
        Count served;
        std::vector<Work> works(threads);
        std::vector<std::thread::id> servers(threads);
        Crew crew(threads, [&](int index) {
            auto &server = servers[static_cast<std::size_t>(index)];
            auto &work = works[static_cast<std::size_t>(index)];
            service.start();
            work.run = [&] {
                server = std::this_thread::get_id();
                served.add();
            };
            service.post(&work);
            service.start();
        });
        served.wait_for(threads);
        crew.join();
        for (const auto server : servers)
            CHECK(server == servers[0] && server != std::this_thread::get_id());
    }
#if defined(__linux__)
    // A second thread would name itself too, sooner or later; then, at the latest, one of these runs sees it.
    CHECK(threads_named("aiobridge-start") == rounds);
#endif
}

TEST(posts_find_it_idle_or_busy) {
    Service &service = service_of("posts");
    service.start();
    constexpr int repeats = 1000;
    Count served;
    std::vector<int> order;
    Work works[3];
    for (int index = 0; index < 3; ++index)
        works[index].run = [&, index] {
            order.push_back(index);
            served.add();
        };
    for (int repeat = 0; repeat < repeats; ++repeat) {
        // The first finds it idle, or about to be; the others find it in any state.
        order.clear();
        for (Work &work : works)
            service.post(&work);
        served.wait_for(3 * (repeat + 1));
        CHECK(order == std::vector{0, 1, 2});
    }
}

// What a served node posts comes while the thread is awake: nothing but its own second look finds it.
TEST(a_node_may_be_posted_again_while_it_is_served) {
    Service &service = service_of("again");
    service.start();
    constexpr int repeats = 1000;
    Count served;
    int count = 0;
    Work work;
    work.run = [&] {
        if (++count < repeats)
            service.post(&work);
        else
            served.add();
    };
    service.post(&work);
    served.wait_for(1);
    CHECK(count == repeats);
}

#if defined(CAN_STEP)
// From serving a node to falling asleep: at each instruction on this way another post comes.
TEST(a_post_in_the_middle_of_falling_asleep) {
    if (!Step::possible())
        return;
    Service &service = service_of("step");
    service.start();
    Count served;
    Work work, other;
    bool slept = false;
    const auto post = [&] { service.post(&other); };
    work.run = [&] { Step::begin(work.number, post); };
    other.run = [&] {
        CHECK(Step::end());
        slept = Step::slept();
        served.add();
    };
    for (int repeats = 1; !slept; ++repeats) {
        work.number += Step::stride;
        service.post(&work);
        served.wait_for(repeats);
    }
    CHECK(work.number > 10); // the way is not that short
}
#endif

TEST(nothing_is_lost_between_idle_periods) {
    constexpr int threads = 4, posts = unless_shaken(50'000);
    Service &service = service_of("flood");
    service.start();
    int total = 0;                   // the service's thread's
    std::thread::id server;          // likewise
    std::atomic<bool> inside{false}; // a serve
    {
        const Crew crew(threads, [&](int index) {
            Count served;
            int taken = 0; // the service's thread's
            // Bursts of 1, 2, ... posts. After each this thread waits until all are served: the service falls idle.
            std::vector<Work> burst(std::size_t{8} << index);
            for (Work &work : burst)
                work.run = [&] {
                    CHECK(!inside.exchange(true, std::memory_order_relaxed));
                    CHECK(total == 0 || server == std::this_thread::get_id());
                    server = std::this_thread::get_id();
                    CHECK(work.number == taken++);
                    ++total;
                    inside.store(false, std::memory_order_relaxed);
                    served.add();
                };
            for (std::size_t posted = 0, length = 1; posted < posts; length = length % burst.size() + 1) {
                for (std::size_t place = 0; place < length && posted < posts; ++place) {
                    burst[place].number = static_cast<int>(posted++);
                    service.post(&burst[place]);
                }
                served.wait_for(static_cast<int>(posted));
            }
        });
    }
    CHECK(total == threads * posts);
}

} // namespace
