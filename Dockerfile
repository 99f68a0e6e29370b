# An image for `memsweep kubernetes`: docker build -t REGISTRY/memsweep:0.1.0 . in a clone of memsweep.
# docs/how-to/kubernetes.md shows how to add your own modules.
FROM python:3.11-slim
# g++ compiles programs; KubeRay's probes of the Pods call wget
RUN apt-get update && apt-get install -y --no-install-recommends g++ wget && rm -rf /var/lib/apt/lists/*
WORKDIR /memsweep
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY memsweep memsweep
COPY analysis analysis
COPY sweeps sweeps
RUN python -m pip install --no-cache-dir -c constraints.txt torch
RUN python -m pip install --no-cache-dir -c constraints.txt '.[cluster]'
# your sweep files and modules
WORKDIR /questions
ENV PYTHONPATH=/questions
