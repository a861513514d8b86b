//! Hazard: a bundle that reads files outside its folder, or an endless walk.

use std::os::unix::fs::symlink;

use crate::folder::Folder;

const METADATA: &str = "$schema: /app/integration-1.yml\nname: postings\nschemas: []\n";

#[test]
fn links_stay_within_the_folder() {
    let outside = Folder::new(&[("secret.yaml", "password: x\n")]);
    // Layout of a mounted Kubernetes ConfigMap.
    let folder = Folder::new(&[("..2024/postings.yaml", METADATA)]);
    symlink("..2024", folder.path().join("..data")).unwrap();
    symlink("..data", folder.path().join("integrations")).unwrap();
    assert_eq!(folder.told(), Vec::<String>::new());
    assert_eq!(folder.bundle().documents_of_schema("/app/integration-1.yml").count(), 1);

    symlink(outside.path().join("secret.yaml"), folder.path().join("x.yaml")).unwrap();
    symlink(outside.path(), folder.path().join("elsewhere")).unwrap();
    symlink("nowhere", folder.path().join("y.yaml")).unwrap();
    let told = folder.told();
    assert_eq!(told[0], "x.yaml:1: is a link that leads out of the bundle's folder");
    assert!(told[1].starts_with("y.yaml:1: cannot be read"), "{told:?}");
    assert_eq!(told.len(), 2);
}

#[test]
fn circles_end() {
    let folder = Folder::new(&[("integrations/a.yaml", METADATA), ("b/c/readme.txt", "")]);
    symlink("../..", folder.path().join("b/c/up")).unwrap();
    symlink(".", folder.path().join("b/same")).unwrap();
    assert_eq!(folder.told(), Vec::<String>::new());
    assert_eq!(folder.bundle().documents_of_schema("/app/integration-1.yml").count(), 1);
}

#[test]
fn only_plain_files_are_read() {
    let folder = Folder::new(&[]);
    let fifo =
        std::process::Command::new("mkfifo").arg(folder.path().join("a.yaml")).status().unwrap();
    assert!(fifo.success());
    assert_eq!(folder.told(), ["a.yaml:1: is not a plain file"]);
}

#[test]
fn a_bundle_that_is_not_there_is_said() {
    let error =
        reconcile::Bundle::read(reconcile::BundleSource::Folder("/nowhere".into())).unwrap_err();
    assert_eq!(error, "the bundle /nowhere: No such file or directory (os error 2)");
}
