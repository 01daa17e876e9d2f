# syntax=docker/dockerfile:1
# Any Debian with python3 >= 3.11 and its venv module will do as a base.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /uv && /uv/bin/pip install --no-cache-dir uv
COPY pyproject.toml uv.lock README.md LICENSE NOTICE ./
COPY operator ./operator
ENV UV_PROJECT_ENVIRONMENT=/opt/stint UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1
RUN /uv/bin/uv sync --frozen --no-dev --no-editable --compile-bytecode

FROM ${BASE}
LABEL org.opencontainers.image.title="stint" \
      org.opencontainers.image.description="GPU jobs where finishing costs least" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/stint /opt/stint
COPY LICENSE NOTICE /usr/share/doc/stint/
ENV PATH=/opt/stint/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["stint"]
CMD ["run"]
