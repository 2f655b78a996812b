//! `wasi:config/store`: the settings of the pipeline's `capabilities.config` table.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::contract::ConfigErrorIn;
use crate::instance::State;

/// The interface, without its version.
pub(crate) const INTERFACE: &str = "wasi:config/store";

/// Its version: a candidate's, so it is matched exactly.
pub(crate) const VERSION: &str = "0.2.0-rc.1";

/// Adds the interface with these settings; all instances of the plugin share them.
pub(crate) fn add_to_linker(
    linker: &mut Linker<State>,
    settings: Arc<BTreeMap<String, String>>,
) -> wasmtime::Result<()> {
    let mut store = linker.instance("wasi:config/store@0.2.0-rc.1")?;
    let all = settings.clone();
    store.func_wrap("get", move |_: StoreContextMut<'_, State>, (key,): (String,)| {
        let setting: Result<Option<String>, ConfigErrorIn> = Ok(settings.get(&key).cloned());
        Ok((setting,))
    })?;
    store.func_wrap("get-all", move |_: StoreContextMut<'_, State>, (): ()| {
        let pairs = all.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        let settings: Result<Vec<(String, String)>, ConfigErrorIn> = Ok(pairs);
        Ok((settings,))
    })
}
