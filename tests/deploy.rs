//! The manifests in `deploy/kubernetes/` are what Kubernetes and KEDA read, and ask for what rollcall has.

use std::{fs, path::Path};

use jsonschema::Validator;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        batch::v1::Job,
        core::v1::{Secret, Service},
        policy::v1::PodDisruptionBudget,
    },
    schemars::{SchemaGenerator, generate::SchemaSettings},
};
use rollcall::{
    broker::Topology,
    settings::{Settings, Sources},
};
use serde_json::{Value, json};

fn manifests() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.flat_map(|file| serde_saphyr::from_multiple::<Value>(&fs::read_to_string(file).unwrap()).unwrap()).collect()
}

fn manifest(kind: &str) -> Value {
    manifests().into_iter().find(|manifest| manifest["kind"] == kind).unwrap_or_else(|| panic!("no {kind}"))
}

/// The same, with members that the schema does not name as errors: Kubernetes would drop them without a word.
fn strict(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.values_mut().for_each(strict);
            if members.remove("x-kubernetes-int-or-string").is_some() {
                members.insert("type".into(), json!(["integer", "string"]));
            }
            if members.get("properties").is_some_and(Value::is_object) {
                members.entry("additionalProperties").or_insert(json!(false));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(strict),
        _ => {}
    }
}

fn validator(kind: &str) -> Validator {
    let mut generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let schema = match kind {
        "Deployment" => generator.root_schema_for::<Deployment>(),
        "Job" => generator.root_schema_for::<Job>(),
        "PodDisruptionBudget" => generator.root_schema_for::<PodDisruptionBudget>(),
        "Secret" => generator.root_schema_for::<Secret>(),
        "Service" => generator.root_schema_for::<Service>(),
        "ScaledObject" | "TriggerAuthentication" => return jsonschema::validator_for(&keda(kind)).unwrap(),
        other => panic!("no schema of {other}"),
    };
    let mut schema = schema.to_value();
    strict(&mut schema);
    jsonschema::validator_for(&schema).unwrap()
}

/// As much of KEDA's resources as is used here, after its documentation of version 2.18: there is no crate of them.
fn keda(kind: &str) -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let count = json!({ "type": "integer", "minimum": 0 });
    let flag = json!({ "enum": ["true", "false"] });
    let number = json!({ "type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$" });
    let object = |properties: Value, required: &[&str]| json!({ "type": "object", "properties": properties, "required": required });
    let policy = object(
        json!({ "type": { "enum": ["Pods", "Percent"] }, "value": count, "periodSeconds": { "type": "integer", "minimum": 1, "maximum": 1800 } }),
        &["type", "value", "periodSeconds"],
    );
    let rules = object(
        json!({
            "stabilizationWindowSeconds": { "type": "integer", "minimum": 0, "maximum": 3600 },
            "selectPolicy": { "enum": ["Max", "Min", "Disabled"] },
            "policies": { "type": "array", "items": policy },
        }),
        &[],
    );
    let metadata = object(
        json!({
            "protocol": { "enum": ["auto", "http", "amqp"] }, "vhostName": text, "queueName": text, "useRegex": flag,
            "pageSize": number, "operation": { "enum": ["sum", "max", "avg"] }, "excludeUnacknowledged": flag,
            "mode": { "enum": ["QueueLength", "MessageRate", "DeliverGetRate", "PublishedToDeliveredRatio", "ExpectedQueueConsumptionTime"] },
            "value": number, "activationValue": number, "timeout": number, "unsafeSsl": flag,
        }),
        &["queueName", "mode", "value"],
    );
    let trigger = object(
        json!({
            "type": { "const": "rabbitmq" }, "metadata": metadata, "metricType": { "enum": ["AverageValue", "Value"] },
            "authenticationRef": object(json!({ "name": text }), &["name"]),
        }),
        &["type", "metadata"],
    );
    let behavior = object(json!({ "scaleUp": rules, "scaleDown": rules }), &[]);
    let autoscaler = object(json!({ "behavior": behavior, "name": text }), &[]);
    let scaled = object(
        json!({
            "scaleTargetRef": object(json!({ "name": text, "kind": text, "apiVersion": text }), &["name"]),
            "minReplicaCount": count, "maxReplicaCount": count, "pollingInterval": count, "cooldownPeriod": count,
            "advanced": object(json!({ "horizontalPodAutoscalerConfig": autoscaler }), &[]),
            "triggers": { "type": "array", "minItems": 1, "items": trigger },
        }),
        &["scaleTargetRef", "triggers"],
    );
    let reference = object(json!({ "parameter": text, "name": text, "key": text }), &["parameter", "name", "key"]);
    let authentication = object(
        json!({ "secretTargetRef": { "type": "array", "minItems": 1, "items": reference } }),
        &["secretTargetRef"],
    );
    let mut schema = object(
        json!({
            "apiVersion": { "const": "keda.sh/v1alpha1" }, "kind": { "const": kind },
            "metadata": object(json!({ "name": text, "namespace": text }), &["name"]),
            "spec": if kind == "ScaledObject" { scaled } else { authentication },
        }),
        &["apiVersion", "kind", "metadata", "spec"],
    );
    strict(&mut schema);
    schema
}

fn faults(manifest: &Value) -> Vec<String> {
    let validator = validator(manifest["kind"].as_str().expect("a kind"));
    validator.iter_errors(manifest).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

#[test]
fn every_manifest_is_valid() {
    let manifests = manifests();
    let mut kinds: Vec<_> = manifests.iter().map(|manifest| manifest["kind"].as_str().unwrap()).collect();
    kinds.sort_unstable();
    let all =
        ["Deployment", "Job", "PodDisruptionBudget", "ScaledObject", "Secret", "Service", "TriggerAuthentication"];
    assert_eq!(kinds, all);
    for manifest in &manifests {
        assert_eq!(faults(manifest), [""; 0], "{}", manifest["kind"]);
    }
}

#[test]
fn a_broken_manifest_is_refused() {
    let broken = |kind: &str, pointer: &str, value: Value| {
        let mut manifest = manifest(kind);
        *manifest.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        assert_ne!(faults(&manifest), [""; 0], "{kind} {pointer}");
    };
    let container = "/spec/template/spec/containers/0";
    broken("Deployment", "/spec/template/spec/terminationGracePeriodSeconds", json!("45s"));
    broken("Deployment", &format!("{container}/livenessProbe"), json!({ "httpget": { "port": "http" } }));
    broken("Deployment", &format!("{container}/env/0"), json!({ "value": "without a name" }));
    broken("Job", &format!("{container}/securityContext"), json!({ "readOnlyRootFileSystem": true }));
    broken("PodDisruptionBudget", "/spec/maxUnavailable", json!({}));
    broken("Service", "/spec/ports/0", json!({ "name": "http", "ports": 9464 }));
    broken("Secret", "/stringData/AMQP_URL", json!(1));
    broken("ScaledObject", "/spec/triggers/0/metadata/useRegex", json!(true));
    broken("ScaledObject", "/spec/triggers/0/metadata", json!({ "queueLength": "20" }));
    broken("TriggerAuthentication", "/spec/secretTargetRef/0", json!({ "parameter": "host", "name": "rollcall" }));
    for kind in
        ["Deployment", "Job", "PodDisruptionBudget", "ScaledObject", "Secret", "Service", "TriggerAuthentication"]
    {
        let mut manifest = manifest(kind);
        manifest["sepc"] = json!({});
        assert_ne!(faults(&manifest), [""; 0], "{kind}");
    }
}

/// What a pod's container finds in its environment, with the example's secrets.
fn settings(manifest: &Value) -> Settings {
    let secret = manifest_secrets();
    let container = &manifest["spec"]["template"]["spec"]["containers"][0];
    let environment = container["env"].as_array().unwrap().iter().map(|variable| {
        let key = variable["valueFrom"]["secretKeyRef"]["key"].as_str();
        let value = match (key, variable["value"].as_str()) {
            (Some(key), None) => secret[key].as_str().unwrap_or_else(|| panic!("no {key} in the secret")).to_owned(),
            (None, Some(value)) => value.to_owned(),
            _ => "rollcall-7d4b9c6f5-x2x1z".to_owned(),
        };
        (variable["name"].as_str().unwrap().to_owned(), value)
    });
    let settings = Settings::load(&Sources { environment: environment.collect(), ..Sources::default() });
    settings.unwrap_or_else(|faults| panic!("{faults}"))
}

fn manifest_secrets() -> Value {
    manifest("Secret")["stringData"].clone()
}

#[test]
fn the_manifests_ask_for_what_rollcall_has() {
    let deployment = manifest("Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    let set = settings(&deployment);
    let version = env!("CARGO_PKG_VERSION");
    for manifest in [&deployment, &manifest("Job")] {
        let image = &manifest["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(image, &format!("rollcall:{version}"));
    }
    assert_eq!(manifest("Job")["metadata"]["name"], format!("rollcall-migrate-{}", version.replace('.', "-")));
    assert!(!settings(&manifest("Job")).database.url.is_empty());
    assert!(set.replica.name.starts_with("rollcall-") && !set.broker.management_url.is_empty());
    assert!(pod["terminationGracePeriodSeconds"].as_u64().unwrap() > set.shutdown.grace.as_secs() + 10);
    assert!(set.http.listen.ip().is_unspecified());
    assert_eq!(pod["containers"][0]["ports"][0]["containerPort"], set.http.listen.port());
    assert_eq!(manifest("Service")["spec"]["ports"][0]["port"], set.http.listen.port());

    let scaled = manifest("ScaledObject");
    assert_eq!(scaled["spec"]["maxReplicaCount"], set.broker.partitions);
    assert_eq!(scaled["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"]);
    let trigger = &scaled["spec"]["triggers"][0]["metadata"];
    let events = trigger["queueName"].as_str().unwrap().strip_suffix("[0-9]+$").unwrap();
    let events = events.strip_prefix('^').unwrap().replace('\\', "");
    assert!(Topology::new(&set.broker).event_queues().all(|queue| queue.starts_with(&events)));
    let held = u64::from(set.broker.prefetch) * u64::from(set.broker.partitions);
    assert!(
        trigger["value"].as_str().unwrap().parse::<u64>().unwrap() > held,
        "it would grow for what a replica holds"
    );
    let reference = &manifest("TriggerAuthentication")["spec"]["secretTargetRef"][0];
    assert!(manifest_secrets()[reference["key"].as_str().unwrap()].is_string());

    let labels = deployment["spec"]["template"]["metadata"]["labels"].clone();
    assert_eq!(deployment["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(manifest("PodDisruptionBudget")["spec"]["selector"]["matchLabels"], labels);
    assert_eq!(manifest("Service")["spec"]["selector"], labels);
}
