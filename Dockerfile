# What a node of a cluster needs, and no tools for development. For Kubernetes (docs/cluster/kuberay-*.yaml) and plain Docker.
#   docker build -t affectgrid .                                        CPU: torch without CUDA
#   docker build -t affectgrid-gpu --build-arg TORCH_INDEX= .           NVIDIA: CUDA comes with torch, the driver from the host
#   docker run --rm --shm-size=4g -v "$PWD/outputs:/app/outputs" affectgrid python jobs/tune.py
FROM python:3.12-slim-bookworm

# wget: KubeRay's health checks. libgomp1: torch and scikit-learn. The base image's release fixes the versions.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libgomp1 procps wget \
    && rm -rf /var/lib/apt/lists/*

# The system's Python, not an environment: KubeRay starts a login shell, and that forgets an image's PATH.
ENV OMP_NUM_THREADS=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    HF_HUB_DISABLE_TELEMETRY=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /app

# The dependencies are a layer of their own, which a change of the code leaves alone: the package is empty at first.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY pyproject.toml constraints.txt README.md LICENSE ./
RUN mkdir -p platform/affectgrid \
    && touch platform/affectgrid/__init__.py \
    && pip install -c constraints.txt ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -e '.[runtime]'

COPY platform/ platform/
COPY search_spaces/ search_spaces/
COPY jobs/ jobs/

RUN useradd --uid 1000 --create-home ray \
    && mkdir -p outputs /cache \
    && chown ray outputs /cache
USER 1000
CMD ["python", "jobs/tune.py"]
