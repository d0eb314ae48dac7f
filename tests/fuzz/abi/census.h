// tests/fuzz/abi/census.h: everything that is handed to the runtime has a number here, and a record of what became of
// it
#pragma once

#include <aiobridge/c_api.h>

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>

/// Says what is wrong and ends the process: the fuzzer keeps the input.
[[noreturn]] inline void fail(const char *format, ...) {
    std::va_list arguments;
    va_start(arguments, format);
    std::fputs("\nabi_fuzz: ", stderr);
    std::vfprintf(stderr, format, arguments);
    std::fputs("\n", stderr);
    std::abort();
}

#define REQUIRE(CONDITION, ...)                                                                                        \
    do {                                                                                                               \
        if (!(CONDITION))                                                                                              \
            fail(__VA_ARGS__);                                                                                         \
    } while (false)

/// One input's payloads, hooks, calls and jobs. Any thread. A payload moves and a merge runs under locks of the
/// runtime's, so what is destroyed with a thing (`held`) is destroyed after our own lock was given back.
class Census {
public:
    enum class Kind { payload, cancel_hook, hook, item_hook, call, job };
    struct Entry {
        Kind kind;
        unsigned runs = 0, ends = 0;
        bool expected = false;        // of calls: somebody was promised a result or an error
        std::function<void()> on_run; // what it does when it runs
        std::function<void()> held;   // never called: owns what dies with it
    };

    std::uint32_t begin(Kind kind, std::function<void()> on_run = {}, std::function<void()> held = {}) {
        const std::lock_guard lock(mutex_);
        entries_.emplace(++last_, Entry{kind, 0, 0, false, std::move(on_run), std::move(held)});
        return last_;
    }
    void expect(std::uint32_t number) {
        const std::lock_guard lock(mutex_);
        find(number).expected = true;
    }
    void ran(std::uint32_t number) {
        std::function<void()> on_run;
        {
            const std::lock_guard lock(mutex_);
            Entry &entry = find(number);
            REQUIRE(!entry.ends, "%s %u runs after its end", name(entry.kind), number);
            REQUIRE(!entry.runs++ || entry.kind == Kind::item_hook, "%s %u runs twice", name(entry.kind), number);
            on_run = entry.on_run;
        }
        if (on_run)
            on_run();
    }
    void ended(std::uint32_t number) {
        std::function<void()> on_run, held;
        const std::lock_guard lock(mutex_);
        Entry &entry = find(number);
        REQUIRE(!entry.ends++, "%s %u ends twice", name(entry.kind), number);
        std::swap(on_run, entry.on_run); // destroyed after the lock, which was made after them
        std::swap(held, entry.held);
    }
    /// Must not be called while the runtime holds it.
    void require_alive(std::uint32_t number) {
        const std::lock_guard lock(mutex_);
        REQUIRE(!find(number).ends, "%u is used after its end", number);
    }

    /// What has not ended yet: empty if nothing.
    std::string open() {
        const std::lock_guard lock(mutex_);
        std::string result;
        for (const auto &[number, entry] : entries_)
            if (!entry.ends || (entry.kind == Kind::call && entry.expected && !entry.runs))
                result += std::string(name(entry.kind)) + " " + std::to_string(number) + "; ";
        return result;
    }
    /// At the end of an input, when nothing is open.
    void close() {
        const std::lock_guard lock(mutex_);
        for (const auto &[number, entry] : entries_)
            REQUIRE(entry.kind != Kind::hook || entry.runs == 1, "hook %u of something that has ended never ran",
                    number);
        entries_.clear();
        last_ = 0;
    }

private:
    static const char *name(Kind kind) {
        constexpr const char *names[] = {"payload", "on_cancel hook", "hook", "item hook", "call", "job"};
        return names[static_cast<int>(kind)];
    }
    Entry &find(std::uint32_t number) {
        const auto found = entries_.find(number);
        REQUIRE(found != entries_.end(), "%u is nothing that was handed over", number);
        return found->second;
    }
    std::mutex mutex_;
    std::unordered_map<std::uint32_t, Entry> entries_;
    std::uint32_t last_ = 0;
};

inline Census &census = *new Census; // threads of the runtime outlive the statics

/// What travels: its own address tells a move from a copy. 16 bytes, the most that a stream's error may have.
struct Body {
    std::uint32_t number, call;
    Body *self;
    static Body *of(void *payload) {
        auto *body = static_cast<Body *>(payload);
        REQUIRE(body->self == body, "a payload at %p was not moved there", payload);
        census.require_alive(body->number);
        return body;
    }
    static void move(void *to, void *from) {
        Body *source = of(from);
        *static_cast<Body *>(to) = {source->number, source->call, static_cast<Body *>(to)};
        source->self = nullptr;
    }
    static void destroy(void *payload) {
        Body *body = of(payload);
        body->self = nullptr;
        census.ended(body->number);
    }
};

/// Values small and wide, two trivial ones, an odd one among them, and errors small and wide.
inline constexpr aiobridge_type types[] = {
    {sizeof(aiobridge_type), 0, sizeof(Body), alignof(Body), Body::move, Body::destroy},
    {sizeof(aiobridge_type), 0, 128, 64, Body::move, Body::destroy},
    {sizeof(aiobridge_type), AIOBRIDGE_TYPE_TRIVIAL, 8, 8, nullptr, nullptr},
    {sizeof(aiobridge_type), AIOBRIDGE_TYPE_TRIVIAL, 3, 1, nullptr, nullptr},
    {sizeof(aiobridge_type), AIOBRIDGE_TYPE_ERROR, sizeof(Body), alignof(Body), Body::move, Body::destroy},
    {sizeof(aiobridge_type), AIOBRIDGE_TYPE_ERROR, 128, 64, Body::move, Body::destroy},
};
constexpr unsigned value_types = 4, error_type = 4;
inline bool is_trivial(const aiobridge_type &type) { return type.flags & AIOBRIDGE_TYPE_TRIVIAL; }

/// A payload that is the caller's, until the runtime takes it.
class Payload {
public:
    explicit Payload(const aiobridge_type &type, std::function<void()> held = {}, std::uint32_t call = 0)
        : type_(type) {
        if (is_trivial(type))
            return;
        auto *body = reinterpret_cast<Body *>(room_);
        *body = {census.begin(Census::Kind::payload, {}, std::move(held)), call, body};
    }
    Payload(const Payload &) = delete;
    Payload &operator=(const Payload &) = delete;
    ~Payload() {
        if (!taken_ && !is_trivial(type_))
            Body::destroy(room_);
    }
    void *get() { return room_; }
    void taken() { taken_ = true; }

private:
    const aiobridge_type &type_;
    bool taken_ = false;
    alignas(64) unsigned char room_[128] = {};
};
