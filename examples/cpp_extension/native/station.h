// A small native library: a weather station that measures on a thread of its own, and calls back on it. It knows
// nothing of Python, and holds its lock while it calls back, as many libraries do.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

struct reading {
    std::int64_t number;
    double celsius;
};

class station {
public:
    using on_reading = std::function<void(const reading &)>;
    using on_calibrated = std::function<void(std::error_code, double)>;
    using id = std::uint64_t;

    station(int sensors, std::chrono::microseconds interval);

    /// Calls back with each reading of the sensor. When unsubscribe has returned, it is not called any more.
    id subscribe(int sensor, on_reading callback);
    void unsubscribe(id subscription);

    /// Calls back once, with the mean of so many readings; never, if it was aborted before.
    id calibrate(int sensor, int readings, on_calibrated callback);
    void abort(id calibration);

    /// Waits for so many readings, and returns the highest. Ends early, with what it has, when `stop` says so.
    double highest(int sensor, int readings, const std::function<bool()> &stop);

    /// Asks about each sensor's reading; returns the sensors whose reading was not found plausible.
    std::vector<int> inspect(const std::function<bool(const reading &)> &plausible,
                             const std::function<void(const std::string &)> &log);

    std::size_t subscriptions() const;
    std::size_t calibrations() const;

private:
    struct subscription {
        int sensor;
        on_reading callback;
    };
    struct calibration {
        int sensor, readings, left;
        double sum;
        on_calibrated callback;
    };

    void measure(const std::stop_token &stop);
    void calibrate_further();
    static reading read(int sensor, std::int64_t number);
    void check(int sensor) const;

    const int sensors_;
    const std::chrono::microseconds interval_;
    mutable std::mutex mutex_;
    std::condition_variable_any measured_;
    std::int64_t number_ = 0;
    id last_id_ = 0;
    std::map<id, subscription> subscriptions_;
    std::map<id, calibration> calibrations_;
    std::jthread thread_; // last, so that it has ended before anything that it uses is destroyed
};
