"""templates/networkpolicy.yaml: nobody in and nothing out but what is listed."""

from __future__ import annotations

from typing import Any


def test_by_default_only_the_test_may_call_and_only_names_may_be_looked_up(render) -> None:
    found = render()
    spec = found.one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    (caller,) = spec["ingress"]
    (peer,) = caller["from"]
    assert peer["podSelector"]["matchLabels"] == {
        name: found.one("Pod")["metadata"]["labels"][name]
        for name in peer["podSelector"]["matchLabels"]
    }
    names, ask = spec["egress"]
    assert {port["port"] for port in names["ports"]} == {53}
    assert ask["to"][0]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "service"


def test_it_covers_every_pod_of_the_release(render) -> None:
    records = {"database": "postgresql", "url": {"secret": "a"}, "identity": {"secret": "b"}}
    found = render({"records": records})
    selected = found.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items()
    labels: list[dict[str, Any]] = [found.one("Pod")["metadata"]["labels"]]
    for kind in ("Deployment", "Job"):
        labels.append(found.one(kind)["spec"]["template"]["metadata"]["labels"])
    assert all(selected <= one.items() for one in labels)


def test_callers_scrapers_and_the_database_are_let_through(render) -> None:
    peer = [{"podSelector": {"matchLabels": {"app": "line"}}}]
    rule = [{"ports": [{"port": 5432, "protocol": "TCP"}]}]
    found = render({"networkPolicy": {"callers": peer, "scrapers": peer, "egress": rule}})
    spec = found.one("NetworkPolicy")["spec"]
    asked, scraped = spec["ingress"]
    assert peer[0] in asked["from"]
    assert (scraped["from"], scraped["ports"][0]["port"]) == (peer, "metrics")
    assert rule[0] in spec["egress"]


def test_it_can_be_left_out(render) -> None:
    assert render({"networkPolicy": {"enabled": False}}).kinds("NetworkPolicy") == []
