//! Where a registry sends the client on to.

use super::*;

#[tokio::test]
async fn locations_in_every_form() {
    let registry = ScriptedRegistry::start().await;
    let storage = ScriptedRegistry::start().await;
    let bytes = data(10_000);
    let forms = [
        format!(
            "http://{}/v2/{REPO}/blobs/uploads/session1?x=1&_state=s",
            registry.host()
        ),
        format!("/v2/{REPO}/blobs/uploads/session1"),
        "session1?_state=s".to_owned(),
        format!("//{}/v2/{REPO}/blobs/uploads/session1", registry.host()),
    ];
    for form in forms {
        let registry = ScriptedRegistry::start().await;
        let form = form.replace(&host_of(&form), &registry.host());
        registry.fault(
            "POST",
            "/uploads/",
            (0, 1),
            Fault::SetHeader("location", form.clone()),
        );
        upload(&pushable(&registry), &once(&bytes), &bytes)
            .await
            .unwrap_or_else(|e| panic!("{form}: {e}"));
    }
    // On another host, as registries with their own storage server do it.
    let to = format!("http://{}/elsewhere/{REPO}/-/session9", storage.host());
    registry.fault(
        "POST",
        "/uploads/",
        (0, 9),
        Fault::SetHeader("location", to),
    );
    storage.fault("PUT", "/elsewhere/", (0, 1), Fault::Status(201, vec![], ""));
    upload(&pushable(&registry), &again(&bytes), &bytes)
        .await
        .unwrap();
    assert_eq!(
        storage
            .seen()
            .iter()
            .filter(|s| s.path.starts_with("/elsewhere/") && s.body == 10_000)
            .count(),
        1
    );
}

fn host_of(form: &str) -> String {
    form.split('/')
        .find(|p| p.starts_with("127."))
        .unwrap_or("no host")
        .to_owned()
}

#[tokio::test]
async fn no_location_is_a_clear_error() {
    let registry = ScriptedRegistry::start().await;
    registry.fault("POST", "/uploads/", (0, 9), Fault::DropHeader("location"));
    let bytes = data(10);
    let error = upload(&pushable(&registry), &again(&bytes), &bytes)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("without a location"), "{error}");
    assert_eq!(registry.seen().len(), 1);
    // After PATCH the old location holds.
    let registry = ScriptedRegistry::start().await;
    registry.fault("PATCH", "/uploads/", (0, 9), Fault::DropHeader("location"));
    stream(&pushable(&registry), &once(&data(1000)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_circle_of_redirects_ends() {
    let registry = ScriptedRegistry::start().await;
    let to = format!("/v2/{REPO}/manifests/t");
    registry.fault(
        "GET",
        "/manifests/",
        (0, 99),
        Fault::Status(302, vec![("location", to)], ""),
    );
    let error = within(pushable(&registry).manifest("t")).await.unwrap_err();
    assert!(error.to_string().contains("too many redirects"), "{error}");
    assert_eq!(registry.seen().len(), 6);
}
