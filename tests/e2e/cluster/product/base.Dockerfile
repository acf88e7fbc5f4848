# Stands in for python:*-slim: the same command names.
ARG BASE
FROM ${BASE}
LABEL dev.holdfast.stand-in=true
RUN ln -s python3 /usr/bin/python
ENV LANG=C.UTF-8
CMD ["python3"]
