# Forwards to scripts/, where the work is. ARGS goes through: make demo ARGS=--compare, make test ARGS="-k announces".
.PHONY: help demo test bench lint clean

help:
	@echo "make demo    watch a VIP survive what keepalived's nopreempt does not (root, under a minute once set up)"
	@echo "make test    every test; without root the ones that need network namespaces are left out, and named"
	@echo "make bench   measure it side by side with keepalived (root, about half an hour; QUICK=1: under 3 minutes)"
	@echo "make lint    formatting, style, types, and which part may import which"
	@echo "make clean   remove .venv and every cache"
	@echo "demo, test and bench set up what they need, and say what they install."

demo:
	@scripts/demo $(ARGS)

test:
	@scripts/test $(ARGS)

bench:
	@scripts/bench $(if $(QUICK),--quick) $(ARGS)

lint:
	@scripts/lint

clean:
	@scripts/clean
