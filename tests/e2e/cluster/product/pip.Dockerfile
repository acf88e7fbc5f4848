# The stage that installs, on a machine whose pip needs to be told of an index or of certificates.
ARG BASE
FROM ${BASE}
COPY pip.conf certificates.pem /etc/pip/
ENV PIP_CONFIG_FILE=/etc/pip/pip.conf
