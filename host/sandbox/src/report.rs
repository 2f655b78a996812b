//! What the host finds in a plugin: its imports, exports and needs, and each thing that is wrong.
//!
//! Shown by `check` commands; loading refuses a plugin whose report has differences.

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

use crate::bounded_text::{bytes_text, one_line};
use crate::capabilities::{self, Access, Grants};
use crate::component::Form;
use crate::contract::{self, CONTRACT_VERSION, HANDLE_EXPORT, HANDLE_FUNCTION, HANDLE_INTERFACE};
use crate::limits::Limits;

/// The page of a linear memory.
const PAGE_BYTES: u64 = 64 << 10;

/// What was found in a plugin.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PluginReport {
    /// The file, or the name given with the bytes.
    pub source: String,
    /// The plugin's name.
    pub name: String,
    /// Its version; `unknown` if it does not tell.
    pub version: String,
    /// `sha256:` and the digest of its bytes.
    pub digest: String,
    /// Whether it is a component or had to be made one.
    pub form: Form,
    /// The bytes as they were given.
    pub size_bytes: u64,
    /// Everything it imports, by name.
    pub imports: Vec<Import>,
    /// Everything it exports, by name.
    pub exports: Vec<String>,
    /// What one instance of it needs.
    pub needs: Needs,
    /// How its code was come by.
    pub compiled: Compiled,
    /// Why it cannot be used: one line each, with what to do. Empty if it can.
    pub differences: Vec<String>,
}

/// An import and what the host has for it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Import {
    /// The interface with its version.
    pub name: String,
    /// What the host has for it.
    pub access: Access,
}

/// What one instance of a plugin takes of the pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Needs {
    /// Linear memories.
    pub memories: u32,
    /// What the largest memory begins with, in bytes.
    pub memory_bytes_initial: u64,
    /// Tables.
    pub tables: u32,
    /// What the largest table begins with, in elements.
    pub table_elements_initial: u64,
}

/// How a plugin's code was come by.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Compiled {
    /// Whether it came from the cache.
    pub from_cache: bool,
    /// How long compiling or loading took.
    pub milliseconds: u64,
    /// What was wrong with the cache, if something was: the plugin works without it.
    pub cache_note: Option<String>,
}

/// What a compiled component imports, exports and needs.
pub(crate) struct Findings {
    pub(crate) imports: Vec<Import>,
    pub(crate) exports: Vec<String>,
    pub(crate) needs: Needs,
    pub(crate) differences: Vec<String>,
}

/// Compares a component with the contract, the grants and the limits; finds all differences.
pub(crate) fn examine(
    component: &Component,
    engine: &Engine,
    grants: &Grants,
    limits: &Limits,
) -> Findings {
    let ty = component.component_type();
    let mut differences = Vec::new();
    let mut exports = Vec::new();
    let mut handles = Vec::new();
    for (name, item) in ty.exports(engine) {
        exports.push(one_line(name).into_owned());
        if name.split('@').next() == Some(HANDLE_INTERFACE) {
            handles.push((name, item.ty));
        }
    }
    match handles.iter().find(|(name, _)| *name == HANDLE_EXPORT) {
        Some((_, item)) => differences.extend(handle_difference(item, &ty, engine)),
        None if handles.is_empty() => differences.push(format!(
            "it does not export {HANDLE_EXPORT}{}: build it with the Millstream SDK or for the \
             world millstream:plugin/handler@{CONTRACT_VERSION}",
            if exports.is_empty() {
                ", nor anything else".to_owned()
            } else {
                format!(" but {}", exports.join(", "))
            }
        )),
        None => differences.extend(handles.iter().map(|(name, _)| {
            format!(
                "it exports {}, this host speaks {HANDLE_EXPORT}: build it against contract \
                 {CONTRACT_VERSION}, or run it on a host of its own version",
                one_line(name)
            )
        })),
    }
    let mut imports = Vec::new();
    for (name, item) in ty.imports(engine) {
        let found = match item.ty {
            ComponentItem::ComponentInstance(_) => capabilities::access(name, grants),
            _ => Err(format!(
                "it imports {name} by itself, not in an interface: build it for the world \
                 millstream:plugin/handler@{CONTRACT_VERSION}"
            )),
        };
        let access = match found {
            Ok(access) => access,
            Err(difference) => {
                differences.push(one_line(&difference).into_owned());
                Access::Refused
            }
        };
        imports.push(Import { name: one_line(name).into_owned(), access });
    }
    let needs = needs(component);
    differences.extend(size_differences(needs, limits));
    Findings { imports, exports, needs, differences }
}

fn handle_difference(
    item: &ComponentItem,
    ty: &wasmtime::component::types::Component,
    engine: &Engine,
) -> Option<String> {
    let function = match item {
        ComponentItem::ComponentInstance(interface) => {
            interface.get_export(engine, HANDLE_FUNCTION).map(|function| function.ty)
        }
        _ => None,
    };
    let Some(ComponentItem::ComponentFunc(function)) = function else {
        return Some(format!(
            "its export {HANDLE_EXPORT} has no function {HANDLE_FUNCTION}: build it against the \
             published contract"
        ));
    };
    let error = contract::check_shape(&function, ty).err()?;
    Some(format!(
        "its function {HANDLE_FUNCTION} in {HANDLE_EXPORT} has another shape ({}): build it against \
         the published contract",
        one_line(&format!("{error:#}"))
    ))
}

fn needs(component: &Component) -> Needs {
    // Unknown only where core modules are imported, which is refused above.
    component.resources_required().map_or_else(Needs::default, |needs| Needs {
        memories: needs.num_memories,
        memory_bytes_initial: needs.max_initial_memory_size.unwrap_or(0).saturating_mul(PAGE_BYTES),
        tables: needs.num_tables,
        table_elements_initial: needs.max_initial_table_size.unwrap_or(0),
    })
}

fn size_differences(needs: Needs, limits: &Limits) -> Vec<String> {
    let mut differences = Vec::new();
    let size = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    if size(needs.memory_bytes_initial) > limits.memory_bytes {
        differences.push(format!(
            "it begins with {} of memory, limits.memory allows {}: raise the limit",
            bytes_text(size(needs.memory_bytes_initial)),
            bytes_text(limits.memory_bytes)
        ));
    }
    if size(needs.table_elements_initial) > limits.table_elements {
        differences.push(format!(
            "it begins with a table of {} elements, limits.table allows {}: raise the limit",
            needs.table_elements_initial, limits.table_elements
        ));
    }
    differences
}
