// ext/core/item.h: what a drain delivers
#pragma once

#include "inbox.h"

namespace aiobridge::core {

class Bridge;

/// Posted to a loop's inbox with a reference of its own, which deliver() or discard() gives back: exactly one of the
/// two is called for each post.
class Item : public Node {
public:
    /// Loop thread, GIL. Errors go to the item's owner; -1 with a Python error set only for KeyboardInterrupt and
    /// SystemExit, which pass through the drain.
    virtual int deliver(Bridge &) = 0;
    /// The loop is gone. Any thread.
    virtual void discard() noexcept = 0;

protected:
    ~Item() = default;
};

} // namespace aiobridge::core
