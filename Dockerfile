# The one image of operator and speakers, as the chart starts them: docker build --tag holdfast:0.1.0 .
#
# Neither stage needs more of its base than python3 with venv, wherever that is.
ARG BASE_IMAGE=python:3.13-slim-trixie
# What installs may be another image, of the same Python: one whose pip knows of an index or of certificates of your own.
# Nothing of it gets into the result but /opt/holdfast.
ARG BUILD_IMAGE=${BASE_IMAGE}

FROM ${BUILD_IMAGE} AS build
# pip's own variables, for --build-arg.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# What is not ours changes seldom, and is a layer of its own.
COPY pyproject.toml constraints.txt ./
RUN python3 -m venv tools \
    && tools/bin/pip install --constraint constraints.txt hatchling \
    && python3 -m venv --without-pip /opt/holdfast \
    && tools/bin/python -c 'import tomllib; told = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
print(*told["dependencies"], *told["optional-dependencies"]["cluster"], sep="\n")' >requirements.txt \
    && tools/bin/pip --python /opt/holdfast/bin/python3 install --no-compile --only-binary :all: \
        --constraint constraints.txt --requirement requirements.txt

# Holdfast sends raw requests: of the client it needs credentials and connections, not a class for each kind and verb
# there is (70 MB). The three that stay are imported by the client itself.
RUN cd /opt/holdfast/lib/python3*/site-packages \
    && find kubernetes/client/api kubernetes/aio/client/api -name '*_api.py' -delete \
    && find kubernetes/client/models kubernetes/aio/client/models -name '*.py' ! -name '__init__.py' \
        ! -name v1_object_meta.py ! -name v1_managed_fields_entry.py ! -name v1_owner_reference.py -delete \
    && find . -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' \) -delete

COPY . .
RUN tools/bin/pip wheel --no-build-isolation --no-deps --wheel-dir dist . \
    && tools/bin/pip --python /opt/holdfast/bin/python3 install --no-compile --no-deps dist/*.whl \
    && find /opt/holdfast/bin -type f ! -name holdfast -delete \
    # On a read-only root nothing is compiled later, and no source changes.
    && /opt/holdfast/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /opt/holdfast/lib

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=
LABEL org.opencontainers.image.title="holdfast" \
      org.opencontainers.image.description="Virtual IPs that nodes keep with VRRP: operator and speaker" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/holdfast /opt/holdfast
# Some libraries ask who they are. The second group is the engine's control socket's.
RUN echo 'holdfast:x:65532:65532:Holdfast:/nonexistent:/usr/sbin/nologin' >>/etc/passwd \
    && printf 'holdfast:x:65532:\nholdfast-agent:x:65533:\n' >>/etc/group
ENV PATH=/opt/holdfast/bin:$PATH
# Each process can be started; and what it imports of a standard library that came without bytecode is compiled once, here.
RUN python3 -P -m holdfast_operator --help >/dev/null \
    && python3 -P -m holdfast_speaker.host --help >/dev/null \
    && python3 -P -m holdfast_speaker.agent --help >/dev/null \
    && python3 -P -m holdfast_speaker.agent.alive --help >/dev/null \
    && holdfast --help >/dev/null
ENV PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
CMD ["holdfast", "--help"]
