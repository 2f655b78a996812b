//! Guard: who may ask, and how much at once. Stands before every route, known or not.
//!
//! In this order: the address the request means, the site it comes from, the token, then room.
//! Nothing of a body is read before the request has passed.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tokio::sync::Semaphore;

use crate::access::{Access, Tokens};
use crate::failure::Failure;
use crate::limits::{REQUEST_TIME_MAX, REQUESTS_MAX};

/// Where a browser says what kind of page a request comes from; pages cannot change it.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// See the module.
pub(crate) struct Guard {
    address: SocketAddr,
    allowed_hosts: Vec<String>,
    tokens: Tokens,
    /// What is open without a token.
    open: Access,
    room: Semaphore,
}

impl Guard {
    /// For a server at `address`. `open_probes` lets `/metrics` and `/health` be read without token.
    pub(crate) fn new(
        address: SocketAddr,
        allowed_hosts: Vec<String>,
        tokens: Tokens,
        open_probes: bool,
    ) -> Self {
        let room = Semaphore::new(REQUESTS_MAX);
        let open = tokens.without(address.ip().is_loopback(), open_probes);
        Self { address, allowed_hosts, tokens, open, room }
    }

    fn check(&self, request: &Request) -> Result<Access, Failure> {
        let host = self.check_host(request)?;
        let needed = Access::needed(request.method(), request.uri().path());
        self.check_site(request.headers(), host, needed)?;
        self.check_token(request.headers(), needed)
    }

    /// A page of another site can make a browser send requests here under a name of its own that it
    /// lets point at this address; it cannot make it lie about that name.
    fn check_host<'a>(&self, request: &'a Request) -> Result<&'a str, Failure> {
        let refused = |why: String| {
            Failure::request(
                StatusCode::FORBIDDEN,
                format!(
                    "{why}: ask for http://{}, or name it in the host's `host.allowed_hosts`",
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
        if self.is_allowed(host) || self.is_own_name(host) {
            Ok(host)
        } else {
            Err(refused(format!("`Host: {host}` is no name of this server")))
        }
    }

    fn is_allowed(&self, host: &str) -> bool {
        self.allowed_hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host))
    }

    fn is_own_name(&self, host: &str) -> bool {
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

    /// A browser says which site a request comes from; only our own pages may. A link on another site may
    /// lead to the console, which by itself shows nothing and does nothing.
    fn check_site(&self, headers: &HeaderMap, host: &str, needed: Access) -> Result<(), Failure> {
        let refused = |why: String| {
            let text = format!("{why}: pages of other sites may not ask");
            Failure::request(StatusCode::FORBIDDEN, text)
        };
        match single(headers, &header::ORIGIN) {
            Ok(None) => {}
            Ok(Some(origin)) if origin.strip_prefix("http://") == Some(host) => {}
            // What stands before the host under an allowed name may speak TLS.
            Ok(Some(origin))
                if origin.strip_prefix("https://") == Some(host) && self.is_allowed(host) => {}
            Ok(Some(origin)) => {
                return Err(refused(format!("`Origin: {origin}` is not this server")));
            }
            Err(()) => return Err(refused("the `Origin` header is not one text".to_owned())),
        }
        // An image or a script of another site is asked for without `Origin`.
        match single(headers, &FETCH_SITE) {
            Ok(None | Some("same-origin" | "none")) => Ok(()),
            _ if needed == Access::Nothing => Ok(()),
            Ok(Some(site)) => Err(refused(format!("the request is `{site}`"))),
            Err(()) => Err(refused("the `Sec-Fetch-Site` header is not one text".to_owned())),
        }
    }

    /// What the caller may, which is at least what is needed.
    fn check_token(&self, headers: &HeaderMap, needed: Access) -> Result<Access, Failure> {
        // Nothing depends on a token here, so a wrong one does not matter.
        if needed <= Access::Probes && needed <= self.open {
            return Ok(self.open);
        }
        let shown = match single(headers, &header::AUTHORIZATION) {
            Ok(Some(shown)) => shown,
            Ok(None) if needed <= self.open => return Ok(self.open),
            Ok(None) => return Err(unauthorized("the request shows no token")),
            Err(()) => return Err(unauthorized("the `Authorization` header is not one text")),
        };
        let token = shown.split_once(' ').filter(|(how, _)| how.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = token else {
            return Err(unauthorized("the `Authorization` header is no bearer token"));
        };
        match self.tokens.opens(token.trim_ascii().as_bytes()) {
            Some(access) if access >= needed => Ok(access),
            Some(access) => Err(Failure::request(
                StatusCode::FORBIDDEN,
                format!(
                    "the {} does not open this: it needs the {}",
                    access.token_name(),
                    needed.token_name()
                ),
            )),
            None => Err(unauthorized("the token is not this host's")),
        }
    }
}

/// Lets a request through, in its time, or answers why not.
pub(crate) async fn guard(
    State(guard): State<Arc<Guard>>,
    mut request: Request,
    next: Next,
) -> Response {
    let access = match guard.check(&request) {
        Ok(access) => access,
        Err(failure) => return hardened(failure.into_response()),
    };
    // Probes take no room: they must be answered when the API is busy above all.
    let _permit = if request.uri().path().starts_with("/api/") {
        let Ok(permit) = guard.room.try_acquire() else {
            let text = format!("{REQUESTS_MAX} requests are under way already: try again");
            return hardened(Failure::unavailable(text).into_response());
        };
        Some(permit)
    } else {
        None
    };
    request.extensions_mut().insert(access);
    let response = match tokio::time::timeout(REQUEST_TIME_MAX, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Failure::unavailable(format!(
            "the request took longer than {} s and may or may not have had its effect: look, then try again",
            REQUEST_TIME_MAX.as_secs()
        ))
        .into_response(),
    };
    hardened(response)
}

/// What every answer tells a browser: no other site may have it, nothing is guessed about it, nothing kept of it.
fn hardened(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        ("cross-origin-resource-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The value of a header that may be there once.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
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
