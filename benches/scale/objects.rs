//! Services, and one slice of each.

use serde_json::{Value, json};

/// This many Services with an address and a port, each with a slice of one endpoint, in a hundred namespaces.
pub struct Services {
    pub count: usize,
}

pub const NAMESPACES: usize = 100;

pub fn namespace_of(service: usize) -> String {
    format!("ns{}", service % NAMESPACES)
}

pub fn namespace(i: usize) -> Value {
    json!({"kind": "Namespace", "metadata": {"name": format!("ns{i}")}})
}

pub fn service(i: usize) -> Value {
    json!({"kind": "Service", "metadata": {"name": format!("svc-{i}"), "namespace": namespace_of(i)},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP"}], "selector": {"app": format!("svc-{i}")}}})
}

pub fn slice(i: usize) -> Value {
    json!({"kind": "EndpointSlice", "metadata": {"name": format!("svc-{i}-x7k2p"), "namespace": namespace_of(i), "labels": {
            "kubernetes.io/service-name": format!("svc-{i}"),
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [format!("10.{}.{}.{}", 128 + (i >> 16), i >> 8 & 255, i & 255)],
            "conditions": {"ready": true, "serving": true, "terminating": false}, "nodeName": format!("node-{}", i % 500),
            "targetRef": {"kind": "Pod", "namespace": namespace_of(i), "name": format!("svc-{i}-5d8f7c9b6-x7k2p")}}]})
}
