FROM rust:1.95-slim-bookworm AS build
# for the allocator
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY migrations migrations
COPY config/default.toml config/default.toml
COPY src src
RUN cargo build --release --locked --bin rollcall && strip target/release/rollcall

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/rollcall /usr/local/bin/rollcall
# Headers nest as deep as a publisher likes, and the client reads them recursively on a thread of this stack.
ENV RUST_MIN_STACK=67108864 _RJEM_MALLOC_CONF=narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0
USER nonroot
ENTRYPOINT ["/usr/local/bin/rollcall"]
CMD ["run"]
