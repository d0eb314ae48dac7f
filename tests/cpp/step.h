// tests/cpp/step.h: lets one thread's code run between any two instructions of another one's
#pragma once

#include "threads.h"

#if defined(__x86_64__) && defined(__linux__) && !defined(UNDER_THREAD_SANITIZER)
#define CAN_STEP 1
#include <csignal>
#include <ucontext.h>
#include <x86intrin.h>
#endif

/// Windows of two or three instructions are hit by running threads once in a million times. Here they are all visited:
/// `stepped` is run again and again, each time with the whole of `other` in between, before its first instruction,
/// before its second, and so on. `prepare` is called before each run and `verify` after it.
///
/// It is one thread that does both, by the processor's trap flag. Hence nothing here may allocate or lock, and the
/// order in which another processor sees the writes is not tested. Elsewhere, and under a thread sanitizer (which has
/// locks of its own in every access), `other` runs once before and once after.
class Step {
public:
    template <class Prepare, class Stepped, class Other, class Verify>
    static void through(Prepare prepare, Stepped stepped, Other other, Verify verify) {
#if defined(CAN_STEP)
        struct sigaction action = {}, before;
        action.sa_sigaction = trapped;
        action.sa_flags = SA_SIGINFO;
        sigaction(SIGTRAP, &action, &before);
        other_ = [](void *body) { (*static_cast<Other *>(body))(); };
        body_ = &other;
        for (long place = 1;; place += stride) {
            prepare();
            left_ = place;
            run(stepped);
            const bool beyond = left_ > 0;
            if (beyond)
                other();
            verify();
            if (beyond)
                break;
        }
        sigaction(SIGTRAP, &before, nullptr);
#else
        prepare(), other(), stepped(), verify();
        prepare(), stepped(), other(), verify();
#endif
    }

#if defined(CAN_STEP)
private:
    static constexpr unsigned long long trap_flag = 0x100;
#if defined(UNDER_ADDRESS_SANITIZER) // much longer code, and for other faults
    static constexpr int stride = 7;
#else
    static constexpr int stride = 1;
#endif

    template <class Stepped> [[gnu::noinline]] static void run(Stepped &stepped) {
        __writeeflags(__readeflags() | trap_flag);
        call(stepped);
        __writeeflags(__readeflags() & ~trap_flag);
    }
    template <class Stepped> [[gnu::noinline]] static void call(Stepped &stepped) { stepped(); }

    static void trapped(int, siginfo_t *, void *context) {
        left_ = left_ - 1;
        if (left_ > 0)
            return;
        static_cast<ucontext_t *>(context)->uc_mcontext.gregs[REG_EFL] &= ~static_cast<greg_t>(trap_flag);
        other_(body_);
    }

    static inline volatile long left_;
    static inline void (*other_)(void *);
    static inline void *body_;
#endif
};
