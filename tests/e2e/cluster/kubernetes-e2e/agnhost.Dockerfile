# agnhost with what Kubernetes' tests run beside it. Debian's wget would try twenty times what does not answer; busybox's
# is the one that their own image has.
ARG BASE
FROM ${BASE}
RUN ln -s /bin/busybox /usr/local/bin/wget && mkdir /uploads
COPY agnhost /agnhost
ENTRYPOINT ["/agnhost"]
CMD ["pause"]
