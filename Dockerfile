# Any Debian with python3 >= 3.11 and its venv module will do as a base.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
RUN python3 -m venv /tools && /tools/bin/pip install --no-cache-dir --quiet uv cyclonedx-bom pip-licenses
COPY pyproject.toml uv.lock README.md LICENSE NOTICE ./
COPY operator ./operator
ENV UV_PROJECT_ENVIRONMENT=/opt/stint UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy UV_NO_CACHE=1
RUN /tools/bin/uv sync --frozen --no-dev --no-editable --quiet
# Of no use at run time: other projects' tests, and a second, asynchronous copy of the Kubernetes client.
RUN cd /opt/stint/lib/python3*/site-packages \
    && rm -rf kubernetes/aio && find . -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} + \
    && find . -name '*.so*' -path '*.libs/*' -prune -o -name '*.pyi' -exec rm -f {} + \
    && /opt/stint/bin/python -m compileall -q -j 0 .
RUN mkdir /about && cd /about && cp /src/LICENSE /src/NOTICE . \
    && /tools/bin/cyclonedx-py environment --output-format JSON --output-file sbom.cdx.json /opt/stint/bin/python \
    && /tools/bin/pip-licenses --python=/opt/stint/bin/python --format=plain --with-urls --output-file=licences.txt

FROM ${BASE}
LABEL org.opencontainers.image.title="stint" \
      org.opencontainers.image.description="GPU jobs where finishing costs least" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/stint /opt/stint
# Its licence, the licences of everything in it, and a bill of materials (CycloneDX).
COPY --from=build /about /usr/share/doc/stint/
ENV PATH=/opt/stint/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
USER 65532:65532
EXPOSE 8080 8081
CMD ["stint", "run"]
