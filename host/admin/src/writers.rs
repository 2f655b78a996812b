//! Writers over HTTP: a client takes a name, and appends all or nothing as long as nobody else took it.
//!
//! The name's token is the claim: a request that was on its way when another took the name comes with an old one and
//! is refused, whenever it arrives. Limit: [`WRITERS_MAX`] names are remembered; who took a forgotten one is fenced.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use millstream_core::log::{LogError, TransactError, Writer};
use millstream_core::message::Record;

use crate::failure::Failure;
use crate::log_api::Body;
use crate::server::Served;
use crate::trail::Caller;
use crate::wire::*;

const WRITERS_MAX: usize = 64;

struct Taken {
    name: String,
    token: u64,
    writer: Arc<dyn Writer>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Writers(Mutex<VecDeque<Taken>>);

impl Writers {
    fn put(&self, name: String, writer: Arc<dyn Writer>) -> u64 {
        let token = RandomState::new().hash_one(&name);
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|one| one.name != name);
        if taken.len() >= WRITERS_MAX {
            taken.pop_front();
        }
        taken.push_back(Taken { name, token, writer });
        token
    }

    fn get(&self, name: &str, token: u64) -> Result<Arc<dyn Writer>, LogError> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = taken.iter().find(|one| one.name == name && one.token == token);
        found.map(|one| Arc::clone(&one.writer)).ok_or_else(|| {
            LogError::Fenced(format!(
                "another writer has taken the name {name}, or the host was started again"
            ))
        })
    }
}

pub(crate) async fn take(
    State(served): State<Arc<Served>>,
    Body(request): Body<WriterRequest>,
) -> Result<Json<WriterAnswer>, Failure> {
    let writer = served.log.writer(&request.name).await?;
    Ok(Json(WriterAnswer { token: served.writers.put(request.name, writer) }))
}

pub(crate) async fn append_all(
    State(served): State<Arc<Served>>,
    caller: Caller,
    Body(request): Body<AppendAllRequest>,
) -> Result<Json<AppendAllAnswer>, Failure> {
    let writer = served.writers.get(&request.name, request.token)?;
    let records: Vec<Record> = request.records.into_iter().map(Record::from).collect();
    served.trail.appends(&*served.log, &caller, &records).await?;
    match writer.append_all(&records).await {
        Ok(()) => Ok(Json(AppendAllAnswer { offender: None })),
        Err(TransactError::Offender { index, error }) => {
            let refused = AppendResult::from(Err(error));
            Ok(Json(AppendAllAnswer { offender: Some((index, refused)) }))
        }
        Err(TransactError::Log(error)) => Err(error.into()),
    }
}
