// ext/core/roster.h: all live objects of a kind
#pragma once

#include <mutex>
#include <vector>

namespace aiobridge::core {

/// A doubly linked list under a lock, which is held over nobody's code. Any thread.
template <class T> class Roster {
public:
    class Entry {
        friend class Roster;
        Entry *previous_ = nullptr, *next_ = nullptr;
    };

    void add(T &object) noexcept {
        Entry &entry = object;
        const std::lock_guard lock(mutex_);
        entry.next_ = first_;
        if (first_)
            first_->previous_ = &entry;
        first_ = &entry;
    }
    /// In the destructor of the object. `last_words(none_left)` is called under the lock: nobody sees the object
    /// neither here nor gone.
    template <class LastWords> void remove(T &object, LastWords last_words) noexcept {
        Entry &entry = object;
        const std::lock_guard lock(mutex_);
        (entry.previous_ ? entry.previous_->next_ : first_) = entry.next_;
        if (entry.next_)
            entry.next_->previous_ = entry.previous_;
        last_words(first_ == nullptr);
    }
    /// Under the lock, as `finally` is.
    template <class Visit, class Finally> void for_each(Visit visit, Finally finally) {
        const std::lock_guard lock(mutex_);
        for (Entry *entry = first_; entry; entry = entry->next_)
            visit(static_cast<T &>(*entry));
        finally();
    }
    /// All of them, each with a reference.
    std::vector<T *> retain_all() {
        std::vector<T *> all;
        const auto retain = [&](T &object) {
            if (object.try_retain())
                all.push_back(&object);
        };
        for_each(retain, [] {});
        return all;
    }

private:
    std::mutex mutex_;
    Entry *first_ = nullptr;
};

} // namespace aiobridge::core
