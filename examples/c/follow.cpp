// Print the price of EURUSD in each new version, until it is 0: follow NAME.

#define SHMSYNC_IMPLEMENTATION
#include <shmsync.h>

#include <cstdio>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string_view>

static void check(int result) {
    if (result) throw std::runtime_error(shmsync_strerror(result));
}

class Snapshot {
public:
    explicit Snapshot(shmsync *handle) { check(shmsync_pin(handle, &snapshot_)); }
    ~Snapshot() { shmsync_unpin(&snapshot_); }
    Snapshot(const Snapshot &) = delete;
    Snapshot &operator=(const Snapshot &) = delete;

    shmsync_version version() const { return snapshot_.version; }

    std::optional<double> price(std::string_view symbol) const {
        shmsync_value value, found;
        check(shmsync_parse(&snapshot_, &value));
        if (shmsync_find_str(&value, symbol.data(), symbol.size(), &found)) return std::nullopt;
        return found.type == SHMSYNC_FLOAT ? std::optional<double>(found.f) : std::nullopt;
    }

private:
    shmsync_snapshot snapshot_;
};

int main(int, char **arguments) {
    try {
        shmsync *handle;
        check(shmsync_attach(&handle, arguments[1], nullptr));
        std::unique_ptr<shmsync, decltype(&shmsync_detach)> prices(handle, shmsync_detach);
        shmsync_version seen = {0, 0};
        for (double price = 1; price != 0;) {
            check(shmsync_wait(handle, seen, 60'000'000'000, nullptr));
            Snapshot newest(handle);
            seen = newest.version();
            price = newest.price("EURUSD").value_or(0);
            std::printf("%.2f\n", price);
            std::fflush(stdout);
        }
    } catch (const std::exception &error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
