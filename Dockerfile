# One image for both programs; the chart's Deployments choose the command. Written for any OCI builder; the steps of the
# first stage were run one by one, the image itself was not built with a container engine (docs/installation.md).
#
# Pin the base by digest for production, in both stages: python:3.13-slim@sha256:…
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
RUN pip install --no-cache-dir uv==0.13.9
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
COPY crds crds
COPY kube kube
COPY operator operator
COPY scheduler scheduler
COPY simulations simulations
COPY localcluster localcluster
COPY cli cli
COPY helm helm
# Exactly the lock file's versions, by hash; then our own wheel and nothing more. The programs run from the wheel, never
# from a source checkout. Byte code is made here because the containers' file system is read-only.
RUN uv venv /opt/allotment \
 && uv export --frozen --no-dev --no-emit-project --output-file requirements.txt \
 && uv pip install --python /opt/allotment --compile-bytecode --require-hashes --requirement requirements.txt \
 && uv build --wheel --out-dir dist \
 && uv pip install --python /opt/allotment --compile-bytecode --no-deps dist/allotment-*.whl

FROM ${PYTHON}
COPY --from=build /opt/allotment /opt/allotment
# PYTHONSAFEPATH: nothing in the working directory can be imported in place of a library.
ENV PATH=/opt/allotment/bin:$PATH \
    PYTHONSAFEPATH=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# A number, so that the kubelet can see that it is not root; the chart sets the same.
USER 65532:65532
WORKDIR /tmp
EXPOSE 8080
CMD ["allotment-operator"]
