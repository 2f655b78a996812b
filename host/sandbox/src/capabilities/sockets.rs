//! `wasi:sockets`: may be imported, because interpreters do, and is denied when it is used.
//!
//! No host code for sockets is behind it: each function only ends the call.

use millstream_core::outcome::FaultKind;
use wasmtime::Engine;
use wasmtime::component::types::{Component, ComponentItem};
use wasmtime::component::{Linker, ResourceType};

use crate::capabilities::Refused;
use crate::instance::State;

/// The interfaces, each with the resources it defines itself.
const INTERFACES: [(&str, &[&str]); 7] = [
    ("wasi:sockets/instance-network", &[]),
    ("wasi:sockets/ip-name-lookup", &["resolve-address-stream"]),
    ("wasi:sockets/network", &["network"]),
    ("wasi:sockets/tcp", &["tcp-socket"]),
    ("wasi:sockets/tcp-create-socket", &[]),
    ("wasi:sockets/udp", &["udp-socket", "incoming-datagram-stream", "outgoing-datagram-stream"]),
    ("wasi:sockets/udp-create-socket", &[]),
];

/// A resource of which there is none.
struct Denied;

/// Whether the interface (without version) is one of sockets.
pub(crate) fn provides(interface: &str) -> bool {
    resources(interface).is_some()
}

fn resources(interface: &str) -> Option<&'static [&'static str]> {
    INTERFACES.iter().find(|(name, _)| *name == interface).map(|(_, resources)| *resources)
}

/// Adds what the component imports of sockets, denied.
pub(crate) fn add_to_linker(
    linker: &mut Linker<State>,
    engine: &Engine,
    component: &Component,
) -> wasmtime::Result<()> {
    for (import, item) in component.imports(engine) {
        let interface = import.split_once('@').map_or(import, |(interface, _)| interface);
        let (Some(own), ComponentItem::ComponentInstance(instance)) =
            (resources(interface), item.ty)
        else {
            continue;
        };
        let mut denied = linker.instance(import)?;
        for resource in own {
            denied.resource(resource, ResourceType::host::<Denied>(), |_, _| Ok(()))?;
        }
        for (name, item) in instance.exports(engine) {
            if let ComponentItem::ComponentFunc(_) = item.ty {
                let reason = format!(
                    "the plugin used {interface} ({name}), which no pipeline grants: plugins have \
                     no network"
                );
                denied.func_new(name, move |_, _, _, _| {
                    let (kind, reason) = (FaultKind::Denied, reason.clone());
                    Err(wasmtime::Error::new(Refused { kind, reason }))
                })?;
            }
        }
    }
    Ok(())
}
