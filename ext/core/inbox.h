// ext/core/inbox.h: what many threads post and one thread takes, without a lock
#pragma once

#include "pause.h"

#include <atomic>

namespace aiobridge::core {

/// Something that can be posted to an inbox. Embedded in the object it belongs to, so a post allocates nothing.
struct Node {
    Node *next = nullptr; // the inbox's, then the taker's

protected:
    ~Node() = default;
};

/// A FIFO list of nodes, linked by their own `next`.
class Batch {
public:
    Batch() = default;
    /// `newest` is a chain from the newest node to the oldest.
    explicit Batch(Node *newest) noexcept {
        while (newest) {
            Node *older = newest->next;
            newest->next = first_;
            first_ = newest;
            newest = older;
        }
    }
    bool empty() const noexcept { return !first_; }
    Node *pop() noexcept {
        Node *node = first_;
        if (node)
            first_ = node->next;
        return node;
    }

private:
    Node *first_ = nullptr;
};

enum class Posted {
    queued,  // the taker is awake, or was woken by an earlier post
    wake,    // this post found the inbox idle: the caller must wake the taker
    refused, // the inbox is closed: the node is still the caller's
};

/// Many producers, one taker. FIFO for each producer. Any thread may post; only the taker takes, rests and closes.
///
/// One word holds everything, so that no state can contradict another one:
///   idle()    empty, and the taker sleeps: the next post wakes it
///   nullptr   empty, and the taker is awake or on its way (armed)
///   a node    the newest of a chain of posts, linked by `next`; the taker is awake or on its way
///   closed()  nothing is taken any more
/// Hence "a post waits and no wake is on its way" cannot be expressed, and a wake can be neither lost nor doubled.
/// (A separate `armed` flag beside a queue has to be kept in step with it by two seq_cst operations on each side.)
class Inbox {
public:
    Posted post(Node *node) noexcept {
        // Relaxed: nothing is read through the old head; the chain's older part is read by the taker, which acquires.
        Node *head = head_.load(std::memory_order_relaxed);
        do {
            if (head == closed())
                return Posted::refused;
            node->next = head == idle() ? nullptr : head;
            AIOBRIDGE_PAUSE("inbox.post");
            // Release: the taker sees the node's contents and its link.
        } while (!head_.compare_exchange_weak(head, node, std::memory_order_release, std::memory_order_relaxed));
        AIOBRIDGE_PAUSE("inbox.posted");
        return head == idle() ? Posted::wake : Posted::queued;
    }

    /// Everything posted so far, oldest first. The inbox is then armed: later posts do not wake.
    Batch take() noexcept {
        Node *head = head_.load(std::memory_order_relaxed);
        do {
            if (head == closed())
                return {};
            AIOBRIDGE_PAUSE("inbox.take");
            // Acquire: pairs with every post in the chain (each CAS continues the release sequence of those before).
        } while (!head_.compare_exchange_weak(head, nullptr, std::memory_order_acquire, std::memory_order_relaxed));
        AIOBRIDGE_PAUSE("inbox.taken");
        return Batch(head == idle() ? nullptr : head);
    }

    /// The taker is about to sleep. False if something was posted meanwhile: take again instead.
    bool rest() noexcept {
        Node *expected = nullptr;
        AIOBRIDGE_PAUSE("inbox.rest");
        // Relaxed: nothing is published; what is posted next is ordered by its own release.
        return head_.compare_exchange_strong(expected, idle(), std::memory_order_relaxed) || expected == idle() ||
               expected == closed();
    }

    /// Any thread. As a post of nothing: true if the caller must wake the taker.
    bool arm() noexcept {
        AIOBRIDGE_PAUSE("inbox.arm");
        Node *expected = idle();
        return head_.compare_exchange_strong(expected, nullptr, std::memory_order_relaxed);
    }

    /// Refuses every later post, and returns what waited.
    Batch close() noexcept {
        AIOBRIDGE_PAUSE("inbox.close");
        Node *head = head_.exchange(closed(), std::memory_order_acquire);
        AIOBRIDGE_PAUSE("inbox.closed");
        return Batch(head == idle() || head == closed() ? nullptr : head);
    }

    /// Any thread; a hint: something was posted and not taken.
    bool holds() const noexcept {
        const Node *head = head_.load(std::memory_order_relaxed);
        return head && head != idle() && head != closed();
    }

    /// Any thread; a hint, true for ever once it is.
    bool is_closed() const noexcept { return head_.load(std::memory_order_relaxed) == closed(); }

private:
    struct Mark : Node {};
    // Two addresses that are no posted node. Constant, and never looked into.
    static inline Mark idle_mark_, closed_mark_;
    static Node *idle() noexcept { return &idle_mark_; }
    static Node *closed() noexcept { return &closed_mark_; }

    std::atomic<Node *> head_{idle()};
};

} // namespace aiobridge::core
