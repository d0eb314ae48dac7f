// tests/cpp/check.h: all that these tests need of a test framework
#pragma once

#include <cstdio>
#include <cstdlib>
#include <cstring>
#if defined(AIOBRIDGE_TEST_PAUSES)
#include "pause.h"

#include <random>
#endif

/// The first failure ends the process, and unwinds nothing: other threads may be anywhere.
#define CHECK(...) ((__VA_ARGS__) ? void() : check_failed(__FILE__, __LINE__, #__VA_ARGS__))

[[noreturn]] inline void check_failed(const char *file, int line, const char *expression) {
    std::fprintf(stderr, "%s:%d: not true: %s\n", file, line, expression);
    std::_Exit(1);
}

/// TEST(name) { ... } is run by main, in the order of the file.
#define TEST(name)                                                                                                     \
    static void name();                                                                                                \
    static Test name##_test(#name, name);                                                                              \
    static void name()

struct Test {
    Test(const char *its_name, void (*body)()) : name(its_name), run(body) { *last = this, last = &next; }
    const char *const name;
    void (*const run)();
    Test *next = nullptr;
    static inline Test *first = nullptr, **last = &first;
};

/// Runs all tests, or those that are named. Each executable is one file, so this may be a header's.
int main(int count, char **names) {
#if defined(AIOBRIDGE_TEST_PAUSES)
    const char *given = std::getenv("AIOBRIDGE_RACE_SEED");
    const unsigned long long seed = given ? std::strtoull(given, nullptr, 10) : std::random_device{}();
    std::fprintf(stderr, "AIOBRIDGE_RACE_SEED=%llu\n", seed);
    aiobridge::core::pauses::shake(seed);
#endif
    for (const Test *test = Test::first; test; test = test->next) {
        bool wanted = count == 1;
        for (int index = 1; index < count; ++index)
            wanted = wanted || std::strcmp(names[index], test->name) == 0;
        if (!wanted)
            continue;
        std::fprintf(stderr, "%s\n", test->name); // before it runs: the last line names the one that hangs
        test->run();
    }
}
