//! The SDK carries its own copy of the contract and of the bindings made from it, so that a vendored
//! SDK builds by itself and no plugin waits for a code generator. Both must be what `wit/` says.
//!
//! After a change of `wit/`: `BLESS=1 cargo test -p millstream-plugin-checks --test contract`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use wit_bindgen_core::wit_parser::Resolve;
use wit_bindgen_core::{Files, WorldGenerator as _};
use wit_bindgen_rust::{Opts, WithOption};

fn plugins() -> PathBuf {
    // Where it runs, not where it was built: checkouts share their target folder.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("..")
}

fn blessing() -> bool {
    std::env::var_os("BLESS").is_some()
}

fn files_under(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_owned();
                files.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_sdk_carries_the_contract_word_for_word() {
    let contract = files_under(&plugins().join("../wit/plugin-0.1.0"));
    let copy_folder = plugins().join("sdk/wit");
    assert!(contract.contains_key(Path::new("plugin.wit")), "the contract is not where it was");
    if blessing() {
        fs::remove_dir_all(&copy_folder).unwrap();
        for (name, text) in &contract {
            let path = copy_folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }
    assert_eq!(
        files_under(&copy_folder),
        contract,
        "plugins/sdk/wit differs from wit/plugin-0.1.0"
    );
}

#[test]
fn the_bindings_are_what_the_generator_makes_of_the_contract() {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(plugins().join("../wit/plugin-0.1.0")).unwrap();
    let world = resolve.select_world(&[package], Some("handler")).unwrap();

    // The contract's types are the SDK's own, so nothing is converted at the boundary.
    let types = WithOption::Path("crate::contract".to_owned());
    let mut generator = Opts {
        format: true,
        generate_all: true,
        with: vec![("millstream:plugin/types@0.1.0".to_owned(), types)],
        default_bindings_module: Some("$crate::bindings".to_owned()),
        export_macro_name: Some("__export".to_owned()),
        pub_export_macro: true,
        ..Opts::default()
    }
    .build();
    let mut files = Files::default();
    generator.generate(&mut resolve, world, &mut files).unwrap();
    let generated: Vec<_> = files.iter().collect();
    assert_eq!(generated.len(), 1, "one world makes one file");
    let made = std::str::from_utf8(generated[0].1).unwrap();

    let path = plugins().join("sdk/src/bindings.rs");
    if blessing() {
        fs::write(&path, made).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap();
    assert!(stored == made, "sdk/src/bindings.rs is stale: run this test once with BLESS=1");
}
