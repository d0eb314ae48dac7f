// ext/core/notifier.h: the one thread that takes the GIL, to call loops
#pragma once

#include "inbox.h"

namespace aiobridge::core {

/// What the notifier does with a NotifierWaker: calls its loop. Not noexcept: on Python up to 3.13 a thread that asks
/// for the GIL may be ended by unwinding.
void notify_loop(Node *waker);

} // namespace aiobridge::core
