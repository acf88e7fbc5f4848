// No program is built of it: scripts/cluster takes definitions out of the module. `go mod tidy` would drop the line.
module holdfast.dev/tests/e2e/cluster/tools/gateway-api

go 1.26.0

require sigs.k8s.io/gateway-api v1.6.3
