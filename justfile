# The few things one does here. `just` alone lists them.

_list:
    @just --list --unsorted

# Everything that must hold before a commit lands.
check:
    cargo fmt --check
    cargo clippy --all-targets -- -D warnings
    cargo test --lib

# Every test, the slow ones included; installs what they need.
test:
    tests/run

# The sample service with the gateway in front.
demo *args:
    cargo run --release -- demo {{args}}

# Licences, advisories, double versions.
deny:
    cargo deny check

# A parser under made-up bytes, for so many seconds: request, answer, chunks, jwt, json, events, frames, path, config.
fuzz target seconds="60":
    cd fuzz && cargo +nightly fuzz run --sanitizer none {{target}} -- -max_total_time={{seconds}}
