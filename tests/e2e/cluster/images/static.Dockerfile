# An image of one static program.
FROM scratch
ARG PROGRAM
COPY ${PROGRAM} /usr/local/bin/
ENV PATH=/usr/local/bin
