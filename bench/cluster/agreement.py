"""Whether the files here agree with each other, where no schema says so. Prints what does not; exit code 1."""

import json
import pathlib
import sys

import yaml

HERE = pathlib.Path(__file__).resolve().parent


def load(path):
    with open(HERE / path, encoding="utf-8") as file:
        return list(yaml.safe_load_all(file))


def main():
    compose, (cluster,) = load("compose/compose.yml")[0]["services"], load("k8s/k3d.yaml")
    _, nodes = load("k8s/nodes.yaml")
    container = nodes["spec"]["template"]["spec"]["containers"][0]
    source = load("grafana/datasource.yml")[0]["datasources"][0]
    dashboard = json.loads((HERE / "grafana/warren.json").read_text(encoding="utf-8"))
    service = f"warren.{load('k8s/namespace.yaml')[0]['metadata']['name']}.svc.cluster.local"
    names = [f"warren-{n}.{service}" for n in range(nodes["spec"]["replicas"])]
    bootstraps = [word.split("/")[2] for word in container["args"] if word.startswith("--bootstrap=")]
    found = load("k8s/prometheus.yml")[0]["scrape_configs"][0]["dns_sd_configs"][0]["names"]
    scraped = load("compose/prometheus.yml")[0]["scrape_configs"][0]["dns_sd_configs"][0]
    provider = load("grafana/dashboards.yml")[0]["providers"][0]
    mounts = [volume.split(":") for volume in compose["grafana"]["volumes"]]
    count = sum(compose[name].get("deploy", {}).get("replicas", 1) for name in ("meet", "node"))
    claims = {
        "compose.yml has 16 nodes": count == 16,
        "the StatefulSet has 67 nodes": nodes["spec"]["replicas"] == 67,
        "k3d has 7 agents": (cluster["kind"], cluster["agents"]) == ("Simple", 7),
        "bootstrap nodes of the StatefulSet are pods of it": bool(bootstraps) and set(bootstraps) <= set(names),
        "the headless service is where Prometheus looks": found == [f"_metrics._tcp.{service}"],
        "Prometheus looks for services of compose.yml": set(scraped["names"]) == {"meet", "node"},
        "nodes tell metrics at the port that is scraped":
            all(f"--metrics=0.0.0.0:{scraped['port']}" in compose[name]["command"] for name in ("meet", "node")),
        "the dashboard is where Grafana looks":
            any(inside.startswith(provider["options"]["path"] + "/") for _, inside, *_ in mounts),
        "files that compose.yml mounts are there":
            all((HERE / "compose" / outside).is_file() for outside, *_ in mounts),
        "Grafana's Prometheus has a service": source["url"] == "http://prometheus:9090" and "prometheus" in compose,
        "the dashboard has panels": len(dashboard["panels"]) > 10,
    }
    wrong = [claim for claim, holds in claims.items() if not holds]
    for claim in wrong:
        print(f"not so: {claim}", file=sys.stderr)
    print(f"{len(claims) - len(wrong)} of {len(claims)} agreements hold")
    sys.exit(bool(wrong))


main()
