#include "station.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

station::station(int sensors, std::chrono::microseconds interval)
    : sensors_(sensors), interval_(interval), thread_([this](const std::stop_token &stop) { measure(stop); }) {}

station::id station::subscribe(int sensor, on_reading callback) {
    check(sensor);
    const std::lock_guard lock(mutex_);
    subscriptions_.emplace(++last_id_, subscription{sensor, std::move(callback)});
    return last_id_;
}

void station::unsubscribe(id subscription) {
    const std::lock_guard lock(mutex_);
    subscriptions_.erase(subscription);
}

station::id station::calibrate(int sensor, int readings, on_calibrated callback) {
    check(sensor);
    const std::lock_guard lock(mutex_);
    calibrations_.emplace(++last_id_, calibration{sensor, readings, readings, 0, std::move(callback)});
    return last_id_;
}

void station::abort(id calibration) {
    const std::lock_guard lock(mutex_);
    calibrations_.erase(calibration);
}

double station::highest(int sensor, int readings, const std::function<bool()> &stop) {
    check(sensor);
    double result = -std::numeric_limits<double>::infinity();
    std::unique_lock lock(mutex_);
    std::int64_t seen = number_;
    for (const std::int64_t last = seen + readings; seen < last && !stop();) {
        measured_.wait(lock, [this, seen] { return number_ != seen; });
        while (seen < std::min(number_, last)) // this thread may wake late
            result = std::max(result, read(sensor, ++seen).celsius);
    }
    return result;
}

std::vector<int> station::inspect(const std::function<bool(const reading &)> &plausible,
                                  const std::function<void(const std::string &)> &log) {
    std::vector<int> failed;
    for (int sensor = 0; sensor < sensors_; ++sensor) {
        std::unique_lock lock(mutex_);
        const reading now = read(sensor, number_);
        lock.unlock(); // who is asked may take its time, and may use the station
        const bool good = plausible(now);
        log("sensor " + std::to_string(sensor) + (good ? " is fine" : " has failed"));
        if (!good)
            failed.push_back(sensor);
    }
    return failed;
}

std::size_t station::subscriptions() const {
    const std::lock_guard lock(mutex_);
    return subscriptions_.size();
}

std::size_t station::calibrations() const {
    const std::lock_guard lock(mutex_);
    return calibrations_.size();
}

void station::measure(const std::stop_token &stop) {
    std::unique_lock lock(mutex_);
    while (true) {
        measured_.wait_for(lock, stop, interval_, [] { return false; });
        if (stop.stop_requested())
            return;
        ++number_;
        for (const auto &[id, subscription] : subscriptions_)
            subscription.callback(read(subscription.sensor, number_));
        calibrate_further();
        measured_.notify_all();
    }
}

void station::calibrate_further() {
    for (auto entry = calibrations_.begin(); entry != calibrations_.end();) {
        auto &calibration = entry->second;
        if (calibration.readings > 0) {
            calibration.sum += read(calibration.sensor, number_).celsius;
            if (--calibration.left > 0) {
                ++entry;
                continue;
            }
            calibration.callback({}, calibration.sum / calibration.readings);
        } else {
            calibration.callback(std::make_error_code(std::errc::invalid_argument), 0);
        }
        entry = calibrations_.erase(entry);
    }
}

reading station::read(int sensor, std::int64_t number) {
    return {number, 10.0 * sensor + static_cast<double>(number % 10) / 10};
}

void station::check(int sensor) const {
    if (sensor < 0 || sensor >= sensors_)
        throw std::out_of_range("the station has no sensor " + std::to_string(sensor) +
                                "; they are numbered from 0 to " + std::to_string(sensors_ - 1));
}
