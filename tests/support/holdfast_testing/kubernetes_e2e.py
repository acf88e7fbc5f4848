"""Kubernetes' own end-to-end tests of load balancers, against the tests' cluster with Holdfast on it.

Run by scripts/e2e-kubernetes, after scripts/cluster has made the cluster, Holdfast's image and the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from holdfast_testing.kind_cluster import ROOT, SCRIPT, ClusterError, KindCluster, run
from holdfast_testing.kubernetes_vips import Holdfast, address_pools

FOCUS = r"\[sig-network\] LoadBalancers"
SPEC_SECONDS = 35 * 60
"""The longest: five rolling updates of three pods that take a minute each to end."""
ENDING_SECONDS = 120
"""How long a spec that is told to end may tidy up."""
CLIENT_ADDRESS = "198.18.0.1"
"""Of the network for benchmarks (RFC 2544). The tests take a client in the /16 of a node's address for a node."""
POOL = "kubernetes-e2e"
POOL_SIZE = 32
NAMESPACE = "kubernetes-e2e"
ONE_NODE_TAINT = "holdfast.dev/kubernetes-e2e"

SLOWEST_FIRST = ("rolling update", "type and ports", "source ranges", "target nodes with endpoints")

ON_ONE_NODE = ("switch session affinity for LoadBalancer service with Local traffic policy",)
"""Wants answers of several pods through one address with externalTrafficPolicy Local. The node that holds the address
answers with pods of its own, and the scheduler gives each node one of three: so one node alone takes pods meanwhile."""

DNS = """
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: dns, namespace: {namespace}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: {namespace}-dns}}
rules:
  - {{apiGroups: [""], resources: [services, pods, namespaces], verbs: [list, watch]}}
  - {{apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: {namespace}-dns}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: {namespace}-dns}}
subjects: [{{kind: ServiceAccount, name: dns, namespace: {namespace}}}]
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: dns, namespace: {namespace}}}
data:
  Corefile: |
    .:53 {{
        errors
        health
        ready
        kubernetes cluster.local
    }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: dns, namespace: {namespace}}}
spec:
  selector: {{matchLabels: {{app: dns}}}}
  template:
    metadata: {{labels: {{app: dns}}}}
    spec:
      serviceAccountName: dns
      dnsPolicy: Default
      containers:
        - name: coredns
          image: {image}
          imagePullPolicy: Never
          command: [coredns, -conf, /etc/coredns/Corefile]
          readinessProbe: {{httpGet: {{path: /ready, port: 8181}}, periodSeconds: 1}}
          volumeMounts: [{{name: config, mountPath: /etc/coredns}}]
      volumes: [{{name: config, configMap: {{name: dns}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: dns, namespace: {namespace}}}
spec:
  clusterIP: {address}
  selector: {{app: dns}}
  ports:
    - {{name: dns, port: 53, protocol: UDP}}
    - {{name: dns-tcp, port: 53, protocol: TCP}}
"""


@dataclass(frozen=True, slots=True)
class Result:
    """How a spec went."""

    name: str
    state: str
    """passed, skipped, failed, or what else the tests' own report says."""
    seconds: float
    message: str = ""
    figures: tuple[str, ...] = ()
    """What it measured, in its own words."""


def cases_of(report: Path, name: str) -> list[ElementTree.Element]:
    """What a JUnit report says of a spec: it lists every other one as skipped, too, without a reason."""
    return [
        case
        for case in ElementTree.parse(report).getroot().iter("testcase")
        if name in case.get("name", "") and _told(case).get("skipped") != "skipped"
    ]


def _told(case: ElementTree.Element) -> dict[str, str]:
    return {
        kind: str(found.get("message", "")).strip()
        for kind in ("skipped", "failure", "error")
        if (found := case.find(kind)) is not None
    }


def read_report(path: Path, name: str) -> Result:
    """How the spec went that a JUnit report is of; ClusterError where the report does not tell."""
    try:
        for case in cases_of(path, name):
            message = "; ".join(_told(case).values())
            return Result(name, case.get("status", ""), float(case.get("time", 0)), message)
        problems = [_told(case).get("failure", "") for case in ElementTree.parse(path).getroot().iter("testcase")]
    except (OSError, ElementTree.ParseError) as error:
        raise ClusterError(f"no report of `{name}`: {error}") from None
    raise ClusterError(f"`{name}` was not run: {next(filter(None, problems), 'the report does not say why')}")


def summary(results: Sequence[Result], heading: str) -> str:
    """For people and docs/conformance.md: Markdown."""
    lines = [heading, "", "| spec | result | seconds | measured |", "|---|---|---|---|"]
    for result in results:
        told = result.state if result.state == "passed" else f"**{result.state}**: {result.message}"
        lines.append(f"| {result.name} | {told} | {result.seconds:.0f} | {'; '.join(result.figures)} |")
    count = sum(result.state == "passed" for result in results)
    lines += ["", f"{count} of {len(results)} passed."]
    return "\n".join(lines).replace("\n\n\n", "\n\n") + "\n"


def junit(reports: Sequence[Path], names: Sequence[str]) -> ElementTree.ElementTree[ElementTree.Element]:
    """One report of all: of each only the spec that it was for."""
    suite = ElementTree.Element("testsuite", name="Kubernetes e2e suite")
    for path, name in zip(reports, names, strict=True):
        suite.extend(cases_of(path, name) if path.exists() else ())
    for count, kind in (("tests", "."), ("failures", "failure"), ("skipped", "skipped")):
        suite.set(count, str(len(suite) if kind == "." else sum(case.find(kind) is not None for case in suite)))
    return ElementTree.ElementTree(suite)


class Suite:
    """The tests' program, and where what it says is kept."""

    def __init__(self, cluster: KindCluster, folder: Path, parallel: int) -> None:
        paths = dict(line.split("=", 1) for line in run([str(SCRIPT), "paths"]).splitlines())
        self.folder = folder
        self.dns_image = paths["coredns-image"]
        self._program = paths["e2e.test"]
        self._parallel = parallel
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = threading.Event()
        self._environment = {
            **os.environ,
            "KUBECONFIG": str(cluster.kubeconfig),
            "PATH": f"{Path(paths['kubectl']).parent}:{os.environ.get('PATH', '')}",
        }
        folder.mkdir(parents=True, exist_ok=True)

    def version(self) -> str:
        """Of Kubernetes, as the tests tell it."""
        return run([self._program, "--version"]).strip()

    def specs(self, focus: str) -> list[str]:
        """The full names of those that a regular expression selects."""
        path = self.folder / "specs.json"
        run(
            [
                self._program,
                "--ginkgo.dry-run",
                f"--ginkgo.focus={focus}",
                f"--ginkgo.json-report={path}",
                "--provider=skeleton",
                "--kubeconfig=/nonexistent",
            ]
        )
        reports = json.loads(path.read_text(encoding="utf-8"))
        return sorted(
            " ".join([*spec["ContainerHierarchyTexts"], spec["LeafNodeText"]])
            for report in reports
            for spec in report["SpecReports"]
            if spec["LeafNodeType"] == "It" and spec["State"] == "passed"
        )

    def run(self, names: Sequence[str], *, one_node: bool = False) -> list[Result]:
        """All of them, several at a time, each in a process of its own."""

        def order(name: str) -> int:
            return next((at for at, part in enumerate(SLOWEST_FIRST) if part in name), len(SLOWEST_FIRST))

        with ThreadPoolExecutor(self._parallel) as pool:
            found = {name: pool.submit(self._run_one, name, one_node) for name in sorted(names, key=order)}
            return [found[name].result() for name in names]

    def stop(self) -> None:
        """End what runs: each spec tidies up. What has not begun does not begin."""
        self._ended.set()
        for process in list(self._running):
            process.send_signal(signal.SIGTERM)

    def report_of(self, name: str) -> Path:
        """Where a spec's own report is."""
        return self.folder / f"{_file_name(name)}.xml"

    def _run_one(self, name: str, one_node: bool) -> Result:
        report = self.report_of(name)
        report.unlink(missing_ok=True)
        if self._ended.is_set():
            return Result(name, "not run", 0)
        taints = "node-role.kubernetes.io/control-plane" + (f",{ONE_NODE_TAINT}" if one_node else "")
        print(f"e2e-kubernetes: begins: {name}", file=sys.stderr, flush=True)
        begun = time.monotonic()
        log = report.with_suffix(".log")
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                [
                    self._program,
                    # The suite's own name stands before it.
                    f"--ginkgo.focus={re.escape(name)}$",
                    f"--ginkgo.timeout={SPEC_SECONDS}s",
                    f"--ginkgo.junit-report={report}",
                    "--ginkgo.no-color",
                    "--ginkgo.v",
                    "--provider=skeleton",
                    f"--kubeconfig={self._environment['KUBECONFIG']}",
                    f"--non-blocking-taints={taints}",
                    "--dump-logs-on-failure=true",
                ],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
            )
            self._running.add(process)
            try:
                process.wait(SPEC_SECONDS + ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            finally:
                self._running.discard(process)
        try:
            result = read_report(report, name)
        except ClusterError as error:
            result = Result(name, "not run", time.monotonic() - begun, str(error))
        told = _rolling_update(log.read_text(encoding="utf-8", errors="replace"))
        result = Result(result.name, result.state, result.seconds, result.message, told)
        print(f"e2e-kubernetes: {result.state} after {result.seconds:.0f} s: {name}", file=sys.stderr, flush=True)
        return result


def _rolling_update(log: str) -> tuple[str, ...]:
    """The requests of all rolling updates together: the tests count them for each."""
    asked, *failed = (
        sum(map(int, re.findall(rf"{what}: (\d+)", log)))
        for what in ("total HTTP requests", "Network errors", "HTTP errors")
    )
    return (f"{sum(failed)} of {asked} requests failed",) if asked else ()


def _file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:150]


# ----- the cluster -----


@contextlib.contextmanager
def client_address(cluster: KindCluster) -> Iterator[None]:
    """Connections from this machine to virtual addresses come from an address that is none of the nodes' network."""
    segment = cluster.segment()
    upper = list(segment.subnet.subnets(prefixlen_diff=1))[1]
    address = [f"{CLIENT_ADDRESS}/32", "dev", segment.interface]
    route = [str(upper), "dev", segment.interface, "src", CLIENT_ADDRESS]
    run(["ip", "address", "replace", *address])
    try:
        run(["ip", "route", "replace", *route])
        yield
    finally:
        # Its route goes with an address.
        run(["ip", "address", "delete", *address])


@contextlib.contextmanager
def dns(cluster: KindCluster, image: str) -> Iterator[None]:
    """Names of Services, which two of the specs look up; at the address that kubelets tell pods."""
    manifest = DNS.format(namespace=NAMESPACE, image=image, address=_dns_address(cluster))
    cluster.apply(manifest)
    try:
        cluster.kubectl("rollout", "status", "deployment/dns", "-n", NAMESPACE, "--timeout=120s")
        yield
    finally:
        cluster.delete(manifest)


def _dns_address(cluster: KindCluster) -> str:
    config = cluster.node_exec(cluster.control_plane().name, "cat", "/var/lib/kubelet/config.yaml")
    found = re.search(r"^clusterDNS:\n- (\S+)$", config, re.MULTILINE)
    if found is None:
        raise ClusterError("the kubelet's configuration names no clusterDNS")
    return found[1]


@contextlib.contextmanager
def one_node(cluster: KindCluster) -> Iterator[None]:
    """Pods are started on one worker alone; nothing that runs is moved."""
    _, *others = [node.name for node in cluster.workers()]
    cluster.kubectl("taint", "node", *others, f"{ONE_NODE_TAINT}=:NoSchedule", "--overwrite")
    try:
        yield
    finally:
        cluster.kubectl("taint", "node", *others, f"{ONE_NODE_TAINT}-")


def delete_left_namespaces(cluster: KindCluster) -> None:
    """The namespaces of specs that were interrupted."""
    left = cluster.items("namespaces", "-l", "e2e-framework")
    names = [namespace["metadata"]["name"] for namespace in left]
    if names:
        cluster.kubectl("delete", "namespace", "--wait=false", "--ignore-not-found", *names)
        cluster.kubectl("wait", "--for=delete", *[f"namespace/{name}" for name in names], "--timeout=240s")


@contextlib.contextmanager
def prepared(cluster: KindCluster, suite: Suite) -> Iterator[None]:
    """Holdfast installed so that every Service of type LoadBalancer is its own, and what else the tests need."""
    holdfast = Holdfast(cluster)
    holdfast.install("--set=services.withoutClass=true")
    pool = {"addresses": cluster.free_addresses(POOL_SIZE), "autoAssign": True}
    with client_address(cluster), dns(cluster, suite.dns_image), address_pools(cluster, (POOL, pool)):
        try:
            yield
        finally:
            delete_left_namespaces(cluster)
    holdfast.install()


def commit() -> str:
    """What is tested; with a mark where the tree differs from it."""
    return run(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12"]).strip()


# ----- the command -----


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line; SystemExit with status 2 for one that is wrong."""
    parser = argparse.ArgumentParser(
        prog="scripts/e2e-kubernetes",
        description="Kubernetes' own end-to-end tests of load balancers, against the tests' cluster with Holdfast.",
        epilog="Ends with 0 when all passed, 1 when one did not, 2 when they could not be run.",
    )
    parser.add_argument("--focus", default=FOCUS, help="only specs whose name matches (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="name them, and run none")
    parser.add_argument("--parallel", type=_positive, default=4, help="how many at a time (default: %(default)s)")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build" / "e2e-kubernetes", help="where logs and reports go"
    )
    return parser.parse_args(words)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


def main(words: Sequence[str]) -> int:
    """Run them; the exit status."""
    asked = arguments(words)
    try:
        if os.geteuid() != 0 and not asked.list:
            raise ClusterError("not root, and the client needs an address and a route of its own on this machine")
        cluster = KindCluster()
        suite = Suite(cluster, asked.folder.absolute(), asked.parallel)
        names = suite.specs(asked.focus)
        if not names:
            raise ClusterError(f"no spec's name matches {asked.focus!r}")
        if asked.list:
            print(*names, sep="\n")
            return 0
        return _run(cluster, suite, names, asked.focus)
    except ClusterError as error:
        print(f"e2e-kubernetes: {error}", file=sys.stderr)
        return 2


def _run(cluster: KindCluster, suite: Suite, names: list[str], focus: str) -> int:
    def interrupted(*_: object) -> None:
        suite.stop()

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)
    today = time.strftime("%-d %B %Y", time.gmtime())
    heading = f"Kubernetes {suite.version()}, `{focus}`; Holdfast {commit()}; {today}."
    alone = [name for name in names if any(part in name for part in ON_ONE_NODE)]
    with prepared(cluster, suite):
        results = suite.run([name for name in names if name not in alone])
        if alone:
            with one_node(cluster):
                results += suite.run(alone, one_node=True)
    results.sort(key=lambda result: names.index(result.name))
    told = summary(results, heading)
    (suite.folder / "summary.md").write_text(told, encoding="utf-8")
    junit([suite.report_of(name) for name in names], names).write(
        suite.folder / "junit.xml", encoding="utf-8", xml_declaration=True
    )
    print(told)
    print(f"e2e-kubernetes: reports and logs: {suite.folder}", file=sys.stderr)
    return 0 if all(result.state == "passed" for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
