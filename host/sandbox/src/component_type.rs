//! Component type: what a core module says of its imports and exports, looked at before it is made a component.
//!
//! Within `component`. The library that makes the component puts the packages of the type in order by a recursion
//! that knows neither circles nor a bound (wit-parser 0.254 and 0.258): with either the stack overflows, and the host
//! is gone. So both are refused here. The type's format of before 2024 is refused with them: nothing that knows the
//! contract writes it.

use std::collections::{BTreeMap, BTreeSet};

use wasmparser::{Parser, Payload};
use wit_parser::decoding::decode_world;
use wit_parser::{PackageId, Resolve};

/// Packages of one type. Of the contract and its capabilities there are some ten.
const PACKAGES_MAX: usize = 1_000;

/// Whether a core module has a type.
///
/// # Errors
/// A sentence that says why it can't be used.
pub(crate) fn is_there(module: &[u8]) -> Result<bool, String> {
    let unreadable = |error| {
        format!(
            "its component type cannot be read: {error:#}; build it with the Millstream SDK or \
             wit-bindgen"
        )
    };
    let mut all: Option<Resolve> = None;
    for payload in Parser::new(0).parse_all(module) {
        let section = match payload {
            Ok(Payload::CustomSection(section)) => section,
            Ok(_) => continue,
            Err(error) => return Err(format!("it is damaged: {error}; build or copy it again")),
        };
        if !section.name().starts_with("component-type") {
            continue;
        }
        let (one, _) = decode_world(section.data()).map_err(unreadable)?;
        check_packages(&one)?;
        match &mut all {
            None => all = Some(one),
            Some(all) => {
                all.merge(one).map_err(unreadable)?;
                check_packages(all)?;
            }
        }
    }
    Ok(all.is_some())
}

/// Takes away, again and again, the packages that depend on none that is left.
fn check_packages(types: &Resolve) -> Result<(), String> {
    let count = types.packages.len();
    if count > PACKAGES_MAX {
        return Err(format!(
            "its component type has {count} packages, and {PACKAGES_MAX} are allowed: build it \
             against fewer interfaces"
        ));
    }
    let packages = types.packages.iter();
    let mut left: BTreeMap<PackageId, BTreeSet<PackageId>> =
        packages.map(|(id, _)| (id, types.package_direct_deps(id).collect())).collect();
    while !left.is_empty() {
        let before = left.len();
        let still: BTreeSet<PackageId> = left.keys().copied().collect();
        left.retain(|_, needs| needs.iter().any(|need| still.contains(need)));
        if left.len() == before {
            return Err("the packages of its component type depend on one another in a circle: \
                        build it with the Millstream SDK or wit-bindgen"
                .to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    // Found by fuzzing: it overflowed the stack, which ends the process.
    #[test]
    fn packages_that_depend_on_one_another_are_refused() {
        let circle = include_bytes!("../../../fuzz/corpus/component/packages_in_a_circle");
        let refused = crate::component::recognise(circle.to_vec()).err().unwrap();
        assert!(refused.contains("in a circle"), "{refused}");
    }
}
