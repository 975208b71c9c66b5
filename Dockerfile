# An image with the program, the libraries that it loads, and the default config. docs/install.md describes how to run it.
# BUILDER is an image of Debian 12 or newer with Rust.
ARG BUILDER=docker.io/library/rust:1-bookworm

FROM ${BUILDER} AS build
WORKDIR /src
COPY Cargo.toml ./
COPY scripts scripts
RUN scripts/setup.sh build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked && \
    install -D --strip target/release/edns /image/usr/sbin/edns && \
    ldd target/release/edns | grep -o '/[^ ]*' | xargs -I{} cp -L --parents {} /image && \
    install -D -m 644 -t /image/etc/edns configs/config.yaml configs/domain.yaml

FROM scratch
COPY --from=build /image /
ENTRYPOINT ["/usr/sbin/edns"]
