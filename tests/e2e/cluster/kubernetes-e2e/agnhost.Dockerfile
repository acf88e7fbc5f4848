# agnhost with what Kubernetes' tests run beside it. Debian's wget would try twenty times what does not answer, and the
# tests wait for it: in their own image it is busybox's, which tries once. (Debian's busybox ends with a segmentation
# fault where it looks up a host.)
ARG BASE
FROM ${BASE}
RUN echo "tries = 1" >>/etc/wgetrc && mkdir /uploads
COPY agnhost /agnhost
ENTRYPOINT ["/agnhost"]
CMD ["pause"]
