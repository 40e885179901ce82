# syntax=docker/dockerfile:1
# From the repository's root:
#   docker build --target cpu -t vlm-gate:0.1.0 .
#   docker build --target gpu -t vlm-gate:0.1.0-gpu .
# Each RUN is one script of deploy/image, which the tests run too. For the same bytes again give
# DEBIAN with a digest (debian@sha256:...), SOURCE_DATE_EPOCH and, where there is one, your mirror.
ARG DEBIAN=debian:12.12-slim

FROM ${DEBIAN} AS python
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 ca-certificates \
    && rm -rf /var/lib/apt/lists/* /var/log/* /var/cache/ldconfig/aux-cache

FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3-venv python3-pip \
    && rm -rf /var/lib/apt/lists/*
ARG SOURCE_DATE_EPOCH=1767225600
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY probes probes
COPY service service
COPY testbed testbed
COPY deploy/image deploy/image
RUN deploy/image/build.sh /wheels constraints.txt

FROM build AS build-cpu
ARG EXTRA_PACKAGES=""
RUN deploy/image/install.sh /wheels /opt/vlm-gate transformers,train constraints.txt \
    && deploy/image/sbom.sh /opt/vlm-gate constraints.txt /opt/vlm-gate/sbom.cdx.json

FROM build AS build-gpu
ARG EXTRA_PACKAGES=""
RUN deploy/image/install.sh /wheels /opt/vlm-gate vllm,train deploy/image/constraints-gpu.txt \
    && deploy/image/sbom.sh /opt/vlm-gate constraints.txt /opt/vlm-gate/sbom.cdx.json

FROM python AS runtime
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="vlm-gate" \
      org.opencontainers.image.description="Knowing when a vision-language model is wrong, in production" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin gate \
    && install -d -o gate -g gate /state /cache
COPY deploy/image/healthcheck.py deploy/image/check.py /opt/image/
ENV PATH=/opt/vlm-gate/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    HF_HOME=/cache/hub \
    XDG_CACHE_HOME=/cache \
    VLM_GATE_STATE_FOLDER=/state
# The root file system may be read-only; these and /tmp are what is written to.
VOLUME ["/state", "/cache"]
EXPOSE 8080 9090
HEALTHCHECK --interval=15s --timeout=5s --start-period=10m --retries=3 \
    CMD ["python", "/opt/image/healthcheck.py"]
ENTRYPOINT ["vlm-gate"]
CMD ["serve"]

FROM runtime AS gpu
# vLLM's kernels are compiled for the card when it starts, and Triton calls a C compiler to do so:
# without one vLLM does not start. So this target has gcc, and the other has no compiler.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev python3-dev \
    && rm -rf /var/lib/apt/lists/* /var/log/*
COPY --from=build-gpu /opt/vlm-gate /opt/vlm-gate
RUN python /opt/image/check.py /opt/vlm-gate/sbom.cdx.json --with-compiler
ENV VLM_GATE_ENGINE=vllm \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001

FROM runtime AS cpu
COPY --from=build-cpu /opt/vlm-gate /opt/vlm-gate
RUN python /opt/image/check.py /opt/vlm-gate/sbom.cdx.json
USER 10001:10001
