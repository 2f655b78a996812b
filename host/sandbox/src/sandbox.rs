//! The sandbox: the one engine of a host, its pool and clock, and the loading of plugins.
//!
//! Loading: read, recognise, compile (or take from the cache), examine, link, reserve room. Whatever
//! is wrong is found here, all of it at once, before the first message.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use tokio::time::Instant;
use wasmtime::component::{Component, Linker};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::bounded_text::bytes_text;
use crate::capabilities::{Grants, clock, config, logging, random, sockets, wasi};
use crate::compiled_cache::{CacheError, CompiledCache, Miss};
use crate::component::{self, PluginSource};
use crate::conduct::Conduct;
use crate::contract::{HANDLE_EXPORT, HANDLE_FUNCTION};
use crate::instance::State;
use crate::pacing::SharedConduct;
use crate::plugin::{LoadedPlugin, PluginCore, PluginOptions};
use crate::report::{self, Compiled, PluginReport};
use crate::room::{Room, Slots, VERSIONS_MAX};
use crate::ticker::Ticker;

/// Tables for each instance of the pool: a component made by wit-component has two.
const TABLES_PER_INSTANCE: u32 = 4;

/// Core modules in one component: an interpreter with its libraries has some twenty.
const CORE_INSTANCES_MAX: u32 = 100;

/// Frames of a backtrace: as many as fit into its 2 KiB where names are short.
const BACKTRACE_FRAMES_MAX: usize = 64;

/// What the host's own functions may use of a guest's stack, beyond the guest's part.
const HOST_STACK_BYTES: usize = 1 << 20;

/// What all plugins of a host share.
#[derive(Clone, Debug)]
pub struct SandboxOptions {
    /// The folder of compiled code, made with mode 0700; `None` compiles at each load.
    pub cache_dir: Option<PathBuf>,
    /// Instances of all pipelines together. Each reserves some GiB of address space, no memory.
    pub instances_max: u32,
    /// The highest `memory_bytes` a pipeline may set.
    pub memory_bytes_max: usize,
    /// The highest `table_elements` a pipeline may set.
    pub table_elements_max: usize,
    /// A guest's call stack in bytes, the same for all.
    pub stack_bytes: usize,
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self {
            cache_dir: None,
            instances_max: 512,
            memory_bytes_max: 4 << 30,
            table_elements_max: 100_000,
            stack_bytes: 512 << 10,
        }
    }
}

/// There is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The machine does not give what the options want.
    #[error("the sandbox cannot start: {0}")]
    Engine(String),
    /// The folder of compiled code is refused.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// A plugin cannot be loaded. Nothing helps but a person.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its file cannot be read.
    #[error("plugin {plugin} of pipeline {pipeline} cannot be read: {error}; check the path")]
    Unreadable {
        /// The file.
        plugin: String,
        /// The pipeline.
        pipeline: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// It is not a plugin, or not one for this pipeline on this host.
    #[error("plugin {plugin} of pipeline {pipeline} cannot be used:\n  - {}", differences.join("\n  - "))]
    Unfit {
        /// The file.
        plugin: String,
        /// The pipeline.
        pipeline: String,
        /// Each difference with what to do, one line each.
        differences: Vec<String>,
    },
    /// The folder of compiled code is refused.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The sandbox of a host.
pub struct Sandbox {
    engine: Engine,
    cache: Option<CompiledCache>,
    room: Arc<Room>,
    options: SandboxOptions,
    /// Stops with the last of sandbox and plugins: without it an endless guest would hold its worker.
    ticker: Arc<Ticker>,
}

/// A component that was compiled and examined.
struct Examined {
    component: Component,
    report: PluginReport,
}

impl Sandbox {
    /// Starts the engine and its ticker.
    ///
    /// # Errors
    /// When the pool cannot be reserved, or the folder of compiled code is not safe.
    pub fn new(options: SandboxOptions) -> Result<Self, SandboxError> {
        let cache = options.cache_dir.as_deref().map(CompiledCache::open).transpose()?;
        let engine = Engine::new(&engine_config(&options)).map_err(|error| {
            SandboxError::Engine(format!(
                "{error:#}; if address space is limited (ulimit -v), raise that or lower the \
                 number of instances"
            ))
        })?;
        let ticker = Ticker::start(engine.weak())
            .map_err(|error| SandboxError::Engine(format!("no thread for its clock: {error}")))?;
        let room = Room::new(Slots {
            instances: options.instances_max,
            memories: options.instances_max,
            tables: options.instances_max.saturating_mul(TABLES_PER_INSTANCE),
        });
        Ok(Self { engine, cache, room, options, ticker: Arc::new(ticker) })
    }

    /// Loads a plugin. Compiling may take seconds: call it where blocking is allowed.
    ///
    /// # Errors
    /// When the plugin cannot be used; the error names every difference.
    pub fn load(
        &self,
        source: impl Into<PluginSource>,
        options: PluginOptions,
    ) -> Result<Arc<LoadedPlugin>, LoadError> {
        let source = source.into();
        let Examined { component, report } = self.examine(&source, &options)?;
        let unfit = |differences| LoadError::Unfit {
            plugin: source.name(),
            pipeline: options.pipeline.clone(),
            differences,
        };
        if !report.differences.is_empty() {
            return Err(unfit(report.differences));
        }
        let link_error = |error: wasmtime::Error| unfit(vec![link_difference(&error)]);
        let linker = self.linker(&component, &options.grants).map_err(link_error)?;
        let pre = linker.instantiate_pre(&component).map_err(link_error)?;
        let handle_export = component
            .get_export_index(None, HANDLE_EXPORT)
            .and_then(|interface| component.get_export_index(Some(&interface), HANDLE_FUNCTION))
            .ok_or_else(|| unfit(vec![format!("it does not export {HANDLE_EXPORT}")]))?;
        let instances = options.instances.max(1);
        let instances_max = instances.saturating_mul(VERSIONS_MAX);
        let slots = Slots {
            instances: instances_max,
            memories: instances_max.saturating_mul(report.needs.memories),
            tables: instances_max.saturating_mul(report.needs.tables),
        };
        let room =
            self.room.reserve(&options.pipeline, slots).map_err(|reason| unfit(vec![reason]))?;
        let name: Arc<str> = report.name.as_str().into();
        let pipeline: Arc<str> = options.pipeline.into();
        let conduct = Conduct::new(options.limits.time, instances, Instant::now());
        let core = PluginCore {
            pre,
            handle_export,
            limits: options.limits,
            stack_bytes: self.options.stack_bytes,
            clock: options.clock,
            log: options.log,
            conduct: SharedConduct::new(pipeline.clone(), name.clone(), conduct),
            pipeline,
            name,
            instances_max,
            instances_live: AtomicU32::new(0),
            _room: room,
            _ticker: self.ticker.clone(),
        };
        Ok(LoadedPlugin::new(core, report))
    }

    /// Examines a plugin without loading it: the report names what is wrong with it. Compiling may
    /// take seconds: call it where blocking is allowed.
    ///
    /// # Errors
    /// When the file cannot be read, is no plugin at all, or does not compile.
    pub fn check(
        &self,
        source: impl Into<PluginSource>,
        options: &PluginOptions,
    ) -> Result<PluginReport, LoadError> {
        let Examined { component, mut report } = self.examine(&source.into(), options)?;
        if report.differences.is_empty() {
            let linked = self
                .linker(&component, &options.grants)
                .and_then(|linker| linker.instantiate_pre(&component));
            report.differences.extend(linked.err().map(|error| link_difference(&error)));
        }
        Ok(report)
    }

    fn examine(
        &self,
        source: &PluginSource,
        options: &PluginOptions,
    ) -> Result<Examined, LoadError> {
        let plugin = source.name();
        let pipeline = options.pipeline.clone();
        let bytes = match source.read() {
            Ok(bytes) => bytes,
            Err(error) => return Err(LoadError::Unreadable { plugin, pipeline, error }),
        };
        let unfit = |difference| LoadError::Unfit {
            plugin: plugin.clone(),
            pipeline: pipeline.clone(),
            differences: vec![difference],
        };
        let size_bytes = bytes.len() as u64;
        let digest = component::digest(&bytes);
        let plugin_bytes = component::recognise(bytes).map_err(unfit)?;
        let metadata = component::metadata(&plugin_bytes.component);
        let (component, compiled) = self.compile(&plugin_bytes.component, unfit)?;
        let findings = report::examine(&component, &self.engine, &options.grants, &options.limits);
        let mut differences = self.limit_differences(options);
        differences.extend(findings.differences);
        let report = PluginReport {
            name: options.name.clone().or(metadata.name).unwrap_or_else(|| source.stem()),
            version: (options.version.clone().or(metadata.version))
                .unwrap_or_else(|| "unknown".to_owned()),
            source: plugin,
            digest,
            form: plugin_bytes.form,
            size_bytes,
            imports: findings.imports,
            exports: findings.exports,
            needs: findings.needs,
            compiled,
            differences,
        };
        Ok(Examined { component, report })
    }

    /// Compiles, or takes compiled code from the cache.
    fn compile(
        &self,
        bytes: &[u8],
        unfit: impl Fn(String) -> LoadError,
    ) -> Result<(Component, Compiled), LoadError> {
        let digest = component::digest(bytes);
        let started = Instant::now();
        let elapsed = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut cache_note = None;
        if let Some(cache) = &self.cache {
            // At each load: the folder may have been opened to others since the start.
            cache.check_folder()?;
            match cache.load(&self.engine, &digest) {
                Ok(component) => {
                    let compiled =
                        Compiled { from_cache: true, milliseconds: elapsed(), cache_note };
                    return Ok((component, compiled));
                }
                Err(Miss::Absent) => {}
                Err(Miss::Damaged(why)) => {
                    tracing::warn!(digest, why, "compiled plugin in the cache is not used");
                    cache_note = Some(format!("the cached entry was not used: {why}"));
                }
            }
        }
        let component = Component::from_binary(&self.engine, bytes)
            .map_err(|error| unfit(format!("it cannot be compiled: {error:#}; build it again")))?;
        let milliseconds = elapsed();
        if let Some(cache) = &self.cache
            && let Err(error) = cache.store(&self.engine, &digest, &component)
        {
            tracing::warn!(digest, %error, "compiled plugin is not cached");
            cache_note = Some(error.to_string());
        }
        Ok((component, Compiled { from_cache: false, milliseconds, cache_note }))
    }

    fn linker(&self, component: &Component, grants: &Grants) -> wasmtime::Result<Linker<State>> {
        let mut linker = Linker::new(&self.engine);
        logging::add_to_linker(&mut linker)?;
        wasi::add_to_linker(&mut linker)?;
        clock::add_to_linker(&mut linker)?;
        random::add_to_linker(&mut linker)?;
        sockets::add_to_linker(&mut linker, &self.engine, &component.component_type())?;
        if let Some(settings) = &grants.config {
            config::add_to_linker(&mut linker, Arc::new(settings.clone()))?;
        }
        Ok(linker)
    }

    /// Limits that the pool could not keep.
    fn limit_differences(&self, options: &PluginOptions) -> Vec<String> {
        let mut differences = Vec::new();
        let (limits, sandbox) = (&options.limits, &self.options);
        if limits.memory_bytes > sandbox.memory_bytes_max {
            differences.push(format!(
                "limits.memory is {}, this sandbox gives at most {}: lower it",
                bytes_text(limits.memory_bytes),
                bytes_text(sandbox.memory_bytes_max)
            ));
        }
        if limits.table_elements > sandbox.table_elements_max {
            differences.push(format!(
                "limits.table is {}, this sandbox gives at most {}: lower it",
                limits.table_elements, sandbox.table_elements_max
            ));
        }
        differences
    }
}

fn link_difference(error: &wasmtime::Error) -> String {
    format!(
        "what it imports has another shape than what this host provides ({error:#}): build it \
         against the published interfaces"
    )
}

fn engine_config(options: &SandboxOptions) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    let instances = options.instances_max;
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_MAX))
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .total_memories(instances)
        .total_tables(instances.saturating_mul(TABLES_PER_INSTANCE))
        .total_stacks(instances)
        .max_memory_size(options.memory_bytes_max)
        .table_elements(options.table_elements_max)
        .max_tables_per_module(TABLES_PER_INSTANCE)
        .max_component_instance_size(4 << 20);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .epoch_interruption(true)
        .max_wasm_stack(options.stack_bytes)
        .async_stack_size(options.stack_bytes.saturating_add(HOST_STACK_BYTES))
        .wasm_backtrace_details(WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES_MAX))
        .generate_address_map(true)
        // A replay must not depend on the machine: NaNs and relaxed SIMD are where Wasm would.
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true);
    config
}
