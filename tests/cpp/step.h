// tests/cpp/step.h: lets one thread's code run between any two instructions of another one's
#pragma once

#include "threads.h"

#if defined(__x86_64__) && defined(__linux__) && !defined(UNDER_THREAD_SANITIZER) && !defined(AIOBRIDGE_TEST_PAUSES)
#define CAN_STEP 1
#include <linux/futex.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <x86intrin.h>

#include <atomic>
#include <csignal>
#include <cstring>
#endif

/// Threads hit a window of two or three instructions once in a million times, or never. Here every window is visited:
/// some code is run again and again, each time with the whole of another function in between, before its first
/// instruction, before its second, and so on.
///
/// One thread does both, by the processor's trap flag. Hence nothing here may allocate or lock, and the order in which
/// another processor sees the writes is not tested. Not under a thread sanitizer, which locks in every access, and not
/// where threads waver by themselves.
class Step {
public:
    /// `stepped` with `other` in between; `prepare` before each run and `verify` after it. Where there is no stepping,
    /// `other` comes once before and once after.
    template <class Prepare, class Stepped, class Other, class Verify>
    static void through(Prepare prepare, Stepped stepped, Other other, Verify verify) {
#if defined(CAN_STEP)
        for (long place = 1;; place += stride) {
            prepare();
            begin(place, other);
            call(stepped);
            const bool called = end();
            if (!called)
                other();
            verify();
            if (!called)
                break;
        }
#else
        prepare(), other(), stepped(), verify();
        prepare(), stepped(), other(), verify();
#endif
    }

#if defined(CAN_STEP)
#if defined(UNDER_ADDRESS_SANITIZER) || !defined(__OPTIMIZE__) // many more instructions
    static constexpr int stride = 7;
#else
    static constexpr int stride = 1;
#endif

    /// False on emulators that know no trap flag.
    static bool possible() {
        const auto nothing = [] {};
        begin(1, nothing);
        return end();
    }
    /// `other` is called when this thread has gone on for `place` instructions, or before it sleeps.
    template <class Other> static void begin(long place, const Other &other) {
        struct sigaction action = {};
        action.sa_sigaction = trapped;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGTRAP, &action, nullptr);
        other_ = [](const void *body) { (*static_cast<const Other *>(body))(); };
        body_ = &other;
        left_ = place;
        called_ = false;
        std::atomic_signal_fence(std::memory_order_seq_cst); // `other` may change anything, from here
        __writeeflags(__readeflags() | trap_flag);
    }
    /// True if `other` was called.
    static bool end() {
        __writeeflags(__readeflags() & ~trap_flag);
        std::atomic_signal_fence(std::memory_order_seq_cst); // to here
        return called_;
    }
    /// True if it was, but only because the thread was about to sleep.
    static bool slept() { return left_ > 0; }

private:
    static constexpr unsigned long long trap_flag = 0x100;

    template <class Stepped> [[gnu::noinline]] static void call(Stepped &stepped) { stepped(); }

    static void trapped(int, siginfo_t *, void *context) {
        auto &registers = static_cast<ucontext_t *>(context)->uc_mcontext.gregs;
        left_ = left_ - 1;
        if (left_ > 0 && !about_to_sleep(registers))
            return;
        registers[REG_EFL] &= ~static_cast<greg_t>(trap_flag);
        called_ = true;
        other_(body_);
    }
    static bool about_to_sleep(const gregset_t &registers) {
        return std::memcmp(reinterpret_cast<const void *>(registers[REG_RIP]), "\x0f\x05", 2) == 0 && // syscall
               registers[REG_RAX] == SYS_futex && (registers[REG_RSI] & FUTEX_CMD_MASK) == FUTEX_WAIT;
    }

    static inline volatile long left_;
    static inline volatile bool called_;
    static inline void (*other_)(const void *);
    static inline const void *body_;
#endif
};
