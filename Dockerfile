FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY Cargo.toml Cargo.lock build.rs ./
COPY migrations migrations
COPY config/default.toml config/default.toml
COPY src src
RUN cargo build --release --locked --bin rollcall && strip target/release/rollcall

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/rollcall /usr/local/bin/rollcall
# Headers nest as deep as a publisher likes, and the client reads them recursively on a thread of this stack.
ENV RUST_MIN_STACK=67108864 MALLOC_ARENA_MAX=2
USER nonroot
ENTRYPOINT ["/usr/local/bin/rollcall"]
CMD ["run"]
