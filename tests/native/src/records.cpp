// tests/native/src/records.cpp: structs as Python objects that are not bound classes
#include "native.h"

#include <aiobridge/pybind11_record.h>

#include <optional>
#include <string_view>

namespace {

struct Trade {
    std::int64_t ns = 0;
    double price = 0;
    std::string symbol;
    std::optional<int> size;
};
struct NativeOnly {
    explicit NativeOnly(std::int64_t number) : tracked(number) {}
    std::int64_t number() const { return tracked.number; }
    Tracked tracked;
};
struct NeverMade {};
struct Nothing {};
struct Unknown {};
struct Mixed {
    char symbol[8] = "AIO";
    const char *place = "Frankfurt";
    std::string_view view = "view";
    const int number = 7;
    Trade inner;
    std::vector<Trade> several;
};
struct WithUnknown {
    Unknown unknown;
};

} // namespace

AIOBRIDGE_RECORD(Trade, "native.Trade");
AIOBRIDGE_RECORD(NativeOnly, "native.NativeOnly");
AIOBRIDGE_RECORD(NeverMade, "native.NeverMade");
AIOBRIDGE_RECORD(Nothing, "native.Nothing");
AIOBRIDGE_RECORD(Mixed, "native.Mixed");
AIOBRIDGE_RECORD(WithUnknown, "native.WithUnknown");

void register_records(py::module_ &m) {
    aiobridge::record<Trade>(
        m, {{"ns", &Trade::ns}, {"price", &Trade::price}, {"symbol", &Trade::symbol}, {"size", &Trade::size}});
    aiobridge::record<NativeOnly>(m, {{"tracked", &NativeOnly::tracked}});
    aiobridge::record<Nothing>(m, {});
    aiobridge::record<Mixed>(m, {{"symbol", &Mixed::symbol},
                                 {"place", &Mixed::place},
                                 {"view", &Mixed::view},
                                 {"number", &Mixed::number},
                                 {"inner", &Mixed::inner},
                                 {"several", &Mixed::several}});
    aiobridge::record<WithUnknown>(m, {{"unknown", &WithUnknown::unknown}});
    m.def("mixed", [] {
        Mixed mixed;
        mixed.several.resize(2);
        return mixed;
    });
    m.def("with_unknown", [] { return WithUnknown(); });
    m.def("make_record_again", [m]() mutable { aiobridge::record<Trade>(m, {{"ns", &Trade::ns}}); });

    m.def("trades", [](int count) {
        auto [writer, stream] = aiobridge::make_stream<Trade>({.capacity = 8, .overflow = aiobridge::overflow::block});
        std::thread([writer = writer, count] {
            for (int i = 0; i < count; ++i)
                writer.push({i, i / 2.0, "TRADE", i % 2 ? std::optional(i) : std::nullopt});
        }).detach();
        return stream;
    });
    m.def("native_only", aiobridge::async([](std::int64_t number) { return NativeOnly(number); }));
    m.def("never_made", [] { return NeverMade(); });
    m.def("never_made_later", aiobridge::async([] { return NeverMade(); }));
    m.def("never_made_events", [] {
        auto [writer, stream] = aiobridge::make_stream<NeverMade>({.capacity = 1});
        writer.push({});
        return stream;
    });
    m.def("symbols", [](const std::vector<Trade> &trades, const Trade *more, const std::optional<Trade> &last) {
        std::string all;
        for (const auto &trade : trades)
            all += trade.symbol;
        return all + more->symbol + (last ? last->symbol : "-");
    });
    m.def("value_of_trade", [](const Trade &trade) { return trade.price * trade.size.value_or(1); }, py::arg("trade"));
    m.def("later", [](Trade trade, std::int64_t ns) {
        trade.ns += ns;
        return trade;
    });
}
