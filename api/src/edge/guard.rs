//! Stands before every route: asks for the key that the route needs, and counts the call. What has declared no need is
//! not served.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header};
use shop::keys::{KeyRole, Token, UsableKey};

use crate::{
    access::{Auth, Bucket, Caller, Limiter, Need, Needs, Peer, Standing, is_limited},
    problem::{Code, Problem},
    state::ApiState,
};

/// A call that is not let through.
struct Refused {
    problem: Problem,
    standing: Option<Standing>,
}

/// Lets through who may do what they ask for, with their [`Caller`] attached.
///
/// A path that is known, but not with this method, is a 405; one that has declared nothing is refused, because somebody
/// forgot.
pub(crate) async fn guard(
    State(state): State<ApiState>,
    needs: Arc<Needs>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let need = match &path {
        // There is nothing at this path; the router says so.
        None => Need::Public,
        Some(path) => match needs.of(path.as_str(), request.method()) {
            Some(need) => need,
            None => return undeclared(&needs, path.as_str()),
        },
    };
    let peer = request.extensions().get::<Peer>();
    let address = peer.map(|peer| state.access().trusted_proxies.client(peer.0, request.headers()));
    let mut caller = Caller { key: None, address };
    // What is not counted is asked for its key all the same.
    let limiter = path.is_none_or(|path| is_limited(path.as_str())).then(|| state.limiter());
    let standing = match admit(&state, limiter, need, &mut caller, request.headers()).await {
        Ok(standing) => standing,
        Err(refused) => return refused.into_response(),
    };
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    if let Some(standing) = standing {
        standing.write(response.headers_mut());
    }
    response
}

/// Counts the call against the key, where there is a good one, else against the address; before the database is asked
/// for a key that was never seen to be good, against the address in any case, so that keys can't be tried out faster than
/// that.
async fn admit(
    state: &ApiState,
    limiter: Option<&Limiter>,
    need: Need,
    caller: &mut Caller,
    headers: &HeaderMap,
) -> Result<Option<Standing>, Refused> {
    let role = match (state.access().auth, need) {
        (Auth::Off, _) | (Auth::Keys, Need::Public) => return count_address(limiter, caller).await,
        (Auth::Keys, Need::Key(role)) => role,
    };
    let token = bearer(headers);
    let is_known = token.as_ref().is_some_and(|token| state.keyring().knows(token));
    let mut standing = if is_known { None } else { count_address(limiter, caller).await? };
    let key = match &token {
        Some(token) => state
            .keyring()
            .open(token, async || state.gate().pass().await)
            .await
            .map_err(|problem| Refused { problem, standing })?,
        None => None,
    };
    let Some(key) = key else {
        if is_known {
            standing = count_address(limiter, caller).await?;
        }
        let detail = match &token {
            Some(_) => "the API key is unknown, revoked or expired",
            None => Code::Unauthenticated.example(),
        };
        return Err(Refused { problem: Problem::new(Code::Unauthenticated, detail), standing });
    };
    let standing = count(limiter, &Bucket::Key(key.key_id.clone())).await?;
    if !key.role.includes(role) {
        return Err(Refused { problem: forbidden(role, &key), standing });
    }
    caller.key = Some(key);
    Ok(standing)
}

async fn count_address(limiter: Option<&Limiter>, caller: &Caller) -> Result<Option<Standing>, Refused> {
    match caller.address {
        Some(address) => count(limiter, &Bucket::of_address(address)).await,
        None => Ok(None),
    }
}

async fn count(limiter: Option<&Limiter>, bucket: &Bucket) -> Result<Option<Standing>, Refused> {
    let Some(limiter) = limiter else { return Ok(None) };
    let standing = limiter.count(bucket).await;
    match standing.and_then(|standing| standing.refusal()) {
        Some(problem) => Err(Refused { problem, standing }),
        None => Ok(standing),
    }
}

/// The key of `Authorization: Bearer <key>`; the scheme's name is written in any case (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<Token> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Token::parse(token.trim())).flatten()
}

fn forbidden(needed: KeyRole, key: &UsableKey) -> Problem {
    let (name, role) = (&key.name, key.role);
    Problem::new(
        Code::Forbidden,
        format!("this needs a key with the role `{needed}`; the key `{name}` has `{role}`"),
    )
}

fn undeclared(needs: &Needs, path: &str) -> Response {
    let Some(allow) = needs.allow(path) else {
        return Problem::internal(format!("the route {path} has declared no role: it is not served"))
            .into_response();
    };
    let mut response = Problem::new(Code::MethodNotAllowed, Code::MethodNotAllowed.example()).into_response();
    if let Ok(allow) = HeaderValue::try_from(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let is_unauthenticated = self.problem.code() == Code::Unauthenticated;
        let mut response = self.problem.into_response();
        if is_unauthenticated {
            let scheme = HeaderValue::from_static("Bearer realm=\"sagaline\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(standing) = self.standing {
            standing.write(response.headers_mut());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware, routing::get};
    use tower::ServiceExt;

    use super::*;
    use crate::{access::RouteTable, limits::Limits};

    /// Three routes that nobody should get to without a key, behind a guard that knows of two of them.
    async fn status(path: &str) -> u16 {
        let state = ApiState::bare(Limits::default());
        let (_, _, needs) = RouteTable::new()
            .declared("/health-report", Need::Key(KeyRole::Operate))
            .declared("/api/report", Need::Key(KeyRole::Read))
            .into_parts();
        let guard = move |state, request, next| super::guard(state, Arc::clone(&needs), request, next);
        let reached = || get(async || "reached");
        let router = Router::new()
            .route("/health-report", reached())
            .route("/api/report", reached())
            .route("/api/forgotten", reached())
            .layer(middleware::from_fn_with_state(state.clone(), guard))
            .with_state(state);
        let request = Request::get(path).body(Body::empty()).expect("a request");
        router.oneshot(request).await.expect("routers do not fail").status().as_u16()
    }

    #[tokio::test]
    async fn a_route_that_is_not_counted_asks_for_its_key_and_a_forgotten_one_is_not_served() {
        assert_eq!(status("/api/report").await, 401);
        assert_eq!(status("/health-report").await, 401);
        assert_eq!(status("/api/forgotten").await, 500);
    }
}
