# `just` lists what there is; `just ci` is what CI runs.

_:
    @just --list --unsorted

# Everything that must hold, as CI runs it
ci:
    .ci/run

# Everything that must hold, on this machine
test:
    scripts/test

# One test or a group of them, by a part of its name
one NAME:
    HOMEOSTAT_NATS_SERVER="$(scripts/nats-server)" cargo test --all-features {{ NAME }}

# What a change needs most often: format, lints, tests of the library
quick: fmt lint
    cargo test --all-features --lib

# Format the sources
fmt:
    cargo fmt --all

# Lints, as strict as in CI
lint:
    cargo clippy --all-targets --all-features -- -D warnings

# The documentation, opened in a browser
doc:
    cargo doc --all-features --no-deps --open

# The loop at work, told as a story
demo *OPTIONS:
    scripts/demo {{ OPTIONS }}

# Our PromQL against a real Prometheus: the same random questions to both
diff-prometheus *OPTIONS:
    scripts/diff-prometheus {{ OPTIONS }}

# A nats-server for development, in the foreground
server:
    "$(scripts/nats-server)" -c deploy/nats/dev.conf

# All benches, or one of them
bench *NAME:
    cargo bench --all-features {{ NAME }}

# Licences, advisories, unused dependencies, spelling
house:
    cargo deny check
    cargo machete
    typos
