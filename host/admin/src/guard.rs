//! Guard: who may ask, and how much at once. Stands before every route, known or not.
//!
//! In this order: the address the request means, the site it comes from, the token, then room.
//! Nothing of a body is read before the request has passed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;

use crate::failure::Failure;
use crate::limits::{REQUEST_TIME_MAX, REQUESTS_MAX};
use crate::token::Token;

/// See the module.
pub(crate) struct Guard {
    address: SocketAddr,
    allowed_hosts: Vec<String>,
    token: Token,
    open_probes: bool,
    room: Semaphore,
}

impl Guard {
    /// For a server at `address`. `open_probes` lets `/metrics` and `/health` be read without token.
    pub(crate) fn new(
        address: SocketAddr,
        allowed_hosts: Vec<String>,
        token: Token,
        open_probes: bool,
    ) -> Self {
        let room = Semaphore::new(REQUESTS_MAX);
        Self { address, allowed_hosts, token, open_probes, room }
    }

    fn check(&self, request: &Request) -> Result<(), Failure> {
        let host = self.check_host(request)?;
        check_origin(request.headers(), host)?;
        let path = request.uri().path();
        let probe = path == "/metrics" || path.starts_with("/health/");
        if probe && self.open_probes { Ok(()) } else { self.check_token(request.headers()) }
    }

    /// A page of another site can make a browser send requests here under a name of its own that it
    /// lets point at this address; it cannot make it lie about that name.
    fn check_host<'a>(&self, request: &'a Request) -> Result<&'a str, Failure> {
        let refused = |why: String| {
            Failure::request(
                StatusCode::FORBIDDEN,
                format!(
                    "{why}: ask for http://{}, or have the host allow the name it is reached by",
                    self.address
                ),
            )
        };
        let host = single(request.headers(), &header::HOST)
            .map_err(|()| refused("the `Host` header is not one text".to_owned()))?
            .ok_or_else(|| refused("the `Host` header is missing".to_owned()))?;
        if request.uri().authority().is_some_and(|authority| authority.as_str() != host) {
            return Err(refused("the request's address is not that of its `Host`".to_owned()));
        }
        if self.is_own_name(host) {
            Ok(host)
        } else {
            Err(refused(format!("`Host: {host}` is no name of this server")))
        }
    }

    fn is_own_name(&self, host: &str) -> bool {
        if self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)) {
            return true;
        }
        let port = self.address.port();
        let Some((name, named_port)) = host.rsplit_once(':') else { return false };
        if named_port.parse() != Ok(port) {
            return false;
        }
        let address =
            name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        match address.parse::<IpAddr>() {
            Ok(ip) => {
                let bound = self.address.ip();
                // Bound to all addresses it has many; a literal address cannot be made to point
                // elsewhere, so any will do.
                ip == bound || bound.is_unspecified() || (bound.is_loopback() && ip.is_loopback())
            }
            Err(_) => name.eq_ignore_ascii_case("localhost") && !self.is_elsewhere(),
        }
    }

    /// Bound to one address of the network, which `localhost` does not mean.
    fn is_elsewhere(&self) -> bool {
        !self.address.ip().is_loopback() && !self.address.ip().is_unspecified()
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Failure> {
        let shown = match single(headers, &header::AUTHORIZATION) {
            Ok(Some(shown)) => shown,
            Ok(None) => return Err(unauthorized("the request shows no token")),
            Err(()) => return Err(unauthorized("the `Authorization` header is not one text")),
        };
        let token = shown.split_once(' ').filter(|(how, _)| how.eq_ignore_ascii_case("bearer"));
        match token {
            Some((_, token)) if self.token.is(token.trim_ascii().as_bytes()) => Ok(()),
            Some(_) => Err(unauthorized("the token is not this host's")),
            None => Err(unauthorized("the `Authorization` header is no bearer token")),
        }
    }
}

/// Lets a request through, in its time, or answers why not.
pub(crate) async fn guard(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    if let Err(failure) = guard.check(&request) {
        return failure.into_response();
    }
    // Probes take no room: they must be answered when the API is busy above all.
    let _permit = if request.uri().path().starts_with("/api/") {
        let Ok(permit) = guard.room.try_acquire() else {
            let text = format!("{REQUESTS_MAX} requests are under way already: try again");
            return Failure::unavailable(text).into_response();
        };
        Some(permit)
    } else {
        None
    };
    match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::unavailable(format!(
            "the request took longer than {} s and may or may not have had its effect: look, then try again",
            REQUEST_TIME_MAX.as_secs()
        ))
        .into_response(),
    }
}

/// A browser says which site a request comes from; only our own pages may.
fn check_origin(headers: &HeaderMap, host: &str) -> Result<(), Failure> {
    let refused = |why: String| {
        Failure::request(StatusCode::FORBIDDEN, format!("{why}: pages of other sites may not ask"))
    };
    match single(headers, &header::ORIGIN) {
        Ok(None) => Ok(()),
        Ok(Some(origin)) if origin.strip_prefix("http://") == Some(host) => Ok(()),
        Ok(Some(origin)) => Err(refused(format!("`Origin: {origin}` is not this server"))),
        Err(()) => Err(refused("the `Origin` header is not one text".to_owned())),
    }
}

/// The value of a header that may be there once.
fn single<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(Some).map_err(|_| ()),
        (Some(_), Some(_)) => Err(()),
    }
}

fn unauthorized(why: &str) -> Failure {
    Failure::request(
        StatusCode::UNAUTHORIZED,
        format!(
            "{why}: send `Authorization: Bearer TOKEN` with the configured token, or with that in the host's `admin.token` file"
        ),
    )
}
