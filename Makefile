# Forwards to scripts/, where the work is. ARGS goes through: make demo ARGS=--compare, make test ARGS="-k announces".
.PHONY: help demo test e2e e2e-kubernetes bench bench-cluster simulate mutants lint clean

help:
	@echo "make demo    watch a VIP survive what keepalived's nopreempt does not (root, under a minute once set up)"
	@echo "make test    every test; without root the ones that need network namespaces are left out, and named"
	@echo "make e2e     the tests on a Kubernetes cluster, which it makes (root; half an hour the first time, then minutes)"
	@echo "make e2e FULL=1   also those that take minutes each: upgrades, nodes deleted, kube-proxy's modes"
	@echo "make e2e-kubernetes   Kubernetes' own tests of load balancers on that cluster (root; half an hour once it is built)"
	@echo "make simulate HOURS=100   that many hours of elections under faults, in virtual time"
	@echo "make mutants plant bugs in core and engine, one after the other: does its test find each?"
	@echo "make bench   measure it side by side with keepalived (root, about half an hour; QUICK=1: under 3 minutes)"
	@echo "make bench-cluster   measure what a cluster costs its API server (minutes; ARGS=\"--vips 500 --nodes 100 --links 5\")"
	@echo "make lint    formatting, style, types, and which part may import which"
	@echo "make clean   remove .venv and every cache"
	@echo "All of them set up what they need, and say what they install."

demo:
	@scripts/demo $(ARGS)

test:
	@scripts/test $(ARGS)

e2e:
	@$(if $(FULL),HOLDFAST_FULL=1) scripts/e2e $(ARGS)

e2e-kubernetes:
	@scripts/e2e-kubernetes $(ARGS)

bench-cluster:
	@scripts/bench-cluster $(ARGS)

simulate:
	@scripts/simulate $(if $(HOURS),--hours $(HOURS)) $(ARGS)

mutants:
	@scripts/mutants $(ARGS)

bench:
	@scripts/bench $(if $(QUICK),--quick) $(ARGS)

lint:
	@scripts/lint

clean:
	@scripts/clean
