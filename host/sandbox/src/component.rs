//! A plugin's file: read within a bound, recognised, made a component, named.
//!
//! First station of loading. Accepted are components (`wasm32-wasip2`) and core modules that carry
//! their component type (`wasm32-unknown-unknown` with wit-bindgen), which are encoded here.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use wasmparser::{BinaryReader, ComponentName, ComponentNameSectionReader, Parser, Payload};

use crate::component_type;

/// The largest plugin taken. A Python plugin has 18 MiB, a Rust one some tens of KiB.
pub const PLUGIN_BYTES_MAX: u64 = 128 << 20;

/// Bytes of a name or version that are believed; longer ones are cut.
const METADATA_BYTES_MAX: usize = 200;

/// Where a plugin's bytes come from.
#[derive(Clone, Debug)]
pub enum PluginSource {
    /// A file.
    Path(PathBuf),
    /// Bytes, and a name for messages.
    Bytes {
        /// What messages call it.
        name: String,
        /// The component or core module.
        bytes: Vec<u8>,
    },
}

impl From<&Path> for PluginSource {
    fn from(path: &Path) -> Self {
        Self::Path(path.to_owned())
    }
}

impl From<PathBuf> for PluginSource {
    fn from(path: PathBuf) -> Self {
        Self::Path(path)
    }
}

impl PluginSource {
    /// What messages call it: the path, or the name given with the bytes.
    pub fn name(&self) -> String {
        match self {
            Self::Path(path) => path.display().to_string(),
            Self::Bytes { name, .. } => name.clone(),
        }
    }

    /// The plugin's name where it does not tell one itself.
    pub(crate) fn stem(&self) -> String {
        match self {
            Self::Path(path) => {
                path.file_stem().map_or_else(|| self.name(), |s| s.to_string_lossy().into_owned())
            }
            Self::Bytes { name, .. } => name.clone(),
        }
    }

    /// The bytes, at most [`PLUGIN_BYTES_MAX`] and one more.
    pub(crate) fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::Path(path) => {
                let file = std::fs::File::open(path)?;
                if !file.metadata()?.is_file() {
                    return Err(std::io::Error::other("it is not a regular file"));
                }
                let mut bytes = Vec::new();
                file.take(PLUGIN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
                Ok(bytes)
            }
            Self::Bytes { bytes, .. } => Ok(bytes.clone()),
        }
    }
}

/// What a plugin's file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A component as it is.
    Component,
    /// A core module that was made a component when it was loaded.
    CoreModule,
}

/// A component, ready to be compiled.
pub(crate) struct PluginBytes {
    pub(crate) form: Form,
    /// The component.
    pub(crate) component: Vec<u8>,
}

/// `sha256:` and the hexadecimal digest of a plugin's bytes.
pub(crate) fn digest(bytes: &[u8]) -> String {
    format!("sha256:{:x}", Sha256::digest(bytes))
}

/// Recognises the bytes and makes them a component.
///
/// # Errors
/// A sentence that says what the file is instead and what to do.
pub(crate) fn recognise(bytes: Vec<u8>) -> Result<PluginBytes, String> {
    if bytes.len() as u64 > PLUGIN_BYTES_MAX {
        return Err(format!(
            "it is larger than the {PLUGIN_BYTES_MAX} bytes a plugin may have: build it in release \
             mode and strip its debug information"
        ));
    }
    if Parser::is_component(&bytes) {
        return Ok(PluginBytes { form: Form::Component, component: bytes });
    }
    if !Parser::is_core_wasm(&bytes) {
        return Err(not_wasm(&bytes));
    }
    if !component_type::is_there(&bytes)? {
        return Err("it is a core module without its component type: build it with the \
                    Millstream SDK or wit-bindgen, or for the target wasm32-wasip2"
            .to_owned());
    }
    let component = wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| {
            format!(
                "it is a core module that cannot be made a component: {error:#}; a core module may \
                 import only what its component type names (a plugin that needs WASI is built for \
                 wasm32-wasip2)"
            )
        })?;
    Ok(PluginBytes { form: Form::CoreModule, component })
}

fn not_wasm(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "it is empty: is its build finished?".to_owned();
    }
    let mut found = String::new();
    for byte in bytes.iter().take(4) {
        // Writing to a String cannot fail.
        let _ = write!(found, "{byte:02x} ");
    }
    format!(
        "it is not WebAssembly: it begins with {found}where 00 61 73 6d is expected; name the \
         .wasm file that the build made"
    )
}

/// What a component tells about itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Metadata {
    /// The component's own name.
    pub(crate) name: Option<String>,
    /// The `version` custom section: of the component, else of the first module in it.
    pub(crate) version: Option<String>,
}

/// Reads the metadata. What cannot be read is absent: it is decoration, compiling decides.
pub(crate) fn metadata(component: &[u8]) -> Metadata {
    let mut metadata = Metadata::default();
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::Version { .. }) => depth += 1,
            Ok(Payload::End(_)) => depth = depth.saturating_sub(1),
            Ok(Payload::CustomSection(section)) => match section.name() {
                "component-name" if depth == 1 => {
                    let reader = BinaryReader::new(section.data(), section.data_offset());
                    metadata.name = component_name(reader).or(metadata.name);
                }
                "version" if depth == 1 || metadata.version.is_none() => {
                    metadata.version = believed(&String::from_utf8_lossy(section.data()));
                }
                _ => {}
            },
            Ok(_) => {}
            Err(_) => break,
        }
    }
    metadata
}

fn component_name(reader: BinaryReader<'_>) -> Option<String> {
    ComponentNameSectionReader::new(reader).find_map(|subsection| match subsection {
        Ok(ComponentName::Component { name, .. }) => believed(name),
        _ => None,
    })
}

/// It ends in headers and logs: printable and short.
fn believed(text: &str) -> Option<String> {
    let printable: String = text.chars().filter(|c| !c.is_control()).collect();
    let text = crate::bounded_text::cut(printable.trim().to_owned(), METADATA_BYTES_MAX);
    (!text.is_empty()).then_some(text)
}
