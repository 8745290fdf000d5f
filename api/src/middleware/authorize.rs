//! Authenticates the caller, checks that its key has the role that the route needs, and counts the call against its
//! rate. Routes without a declared role are not served.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header};
use shop::keys::{KeyRole, Token, UsableKey};

use crate::{
    auth::{Auth, Bucket, Caller, Limiter, Peer, RateStatus, RequiredRole, RouteRoles, is_limited},
    http::{Problem, ProblemCode},
    state::ApiState,
};

/// A call that is refused.
struct Refusal {
    problem: Problem,
    rate_status: Option<RateStatus>,
}

/// Lets a request through if its caller may make it, with the [`Caller`] attached.
///
/// A known path with another method is a 405. A path without a declared role is a 500: the declaration was forgotten.
pub(crate) async fn authorize(
    State(state): State<ApiState>,
    route_roles: Arc<RouteRoles>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.extensions().get::<MatchedPath>().cloned();
    let required = match &path {
        // The path does not exist; the router answers.
        None => RequiredRole::Public,
        Some(path) => match route_roles.of(path.as_str(), request.method()) {
            Some(required) => required,
            None => return undeclared(&route_roles, path.as_str()),
        },
    };
    let peer = request.extensions().get::<Peer>();
    let address = peer.map(|peer| state.access().trusted_proxies.client(peer.0, request.headers()));
    let mut caller = Caller { key: None, address };
    // Paths that are not counted still need their keys.
    let limiter = path.is_none_or(|path| is_limited(path.as_str())).then(|| state.limiter());
    let rate_status = match authenticate(&state, limiter, required, &mut caller, request.headers()).await {
        Ok(rate_status) => rate_status,
        Err(refusal) => return refusal.into_response(),
    };
    request.extensions_mut().insert(caller);
    let mut response = next.run(request).await;
    if let Some(rate_status) = rate_status {
        rate_status.write(response.headers_mut());
    }
    response
}

/// Authenticates the caller and counts the call: against the key if it is valid, else against the address. A key that
/// was never seen to be valid counts against the address before the database is asked, so that guessing keys is limited
/// too.
async fn authenticate(
    state: &ApiState,
    limiter: Option<&Limiter>,
    required: RequiredRole,
    caller: &mut Caller,
    headers: &HeaderMap,
) -> Result<Option<RateStatus>, Refusal> {
    let role = match (state.access().auth, required) {
        (Auth::Off, _) | (Auth::Keys, RequiredRole::Public) => return count_address(limiter, caller).await,
        (Auth::Keys, RequiredRole::Key(role)) => role,
    };
    let token = bearer(headers);
    let is_known = token.as_ref().is_some_and(|token| state.key_cache().recognizes(token));
    let mut rate_status = if is_known { None } else { count_address(limiter, caller).await? };
    let key = match &token {
        Some(token) => state
            .key_cache()
            .authenticate(token, async || state.gate().pass().await)
            .await
            .map_err(|problem| Refusal { problem, rate_status })?,
        None => None,
    };
    let Some(key) = key else {
        if is_known {
            rate_status = count_address(limiter, caller).await?;
        }
        let detail = match &token {
            Some(_) => "the API key is unknown, revoked or expired",
            None => ProblemCode::Unauthenticated.example(),
        };
        return Err(Refusal { problem: Problem::new(ProblemCode::Unauthenticated, detail), rate_status });
    };
    let rate_status = count(limiter, &Bucket::Key(key.key_id.clone())).await?;
    if !key.role.includes(role) {
        return Err(Refusal { problem: forbidden(role, &key), rate_status });
    }
    caller.key = Some(key);
    Ok(rate_status)
}

async fn count_address(limiter: Option<&Limiter>, caller: &Caller) -> Result<Option<RateStatus>, Refusal> {
    match caller.address {
        Some(address) => count(limiter, &Bucket::of_address(address)).await,
        None => Ok(None),
    }
}

async fn count(limiter: Option<&Limiter>, bucket: &Bucket) -> Result<Option<RateStatus>, Refusal> {
    let Some(limiter) = limiter else { return Ok(None) };
    let rate_status = limiter.count(bucket).await;
    match rate_status.and_then(|rate_status| rate_status.refusal()) {
        Some(problem) => Err(Refusal { problem, rate_status }),
        None => Ok(rate_status),
    }
}

/// Reads the key of `Authorization: Bearer <key>`; the scheme is case-insensitive (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<Token> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Token::parse(token.trim())).flatten()
}

fn forbidden(needed: KeyRole, key: &UsableKey) -> Problem {
    let (name, role) = (&key.name, key.role);
    Problem::new(
        ProblemCode::Forbidden,
        format!("this needs a key with the role `{needed}`; the key `{name}` has `{role}`"),
    )
}

fn undeclared(route_roles: &RouteRoles, path: &str) -> Response {
    let Some(allow) = route_roles.allow(path) else {
        return Problem::internal(format!("the route {path} has declared no role: it is not served"))
            .into_response();
    };
    let mut response = Problem::example(ProblemCode::MethodNotAllowed).into_response();
    if let Ok(allow) = HeaderValue::try_from(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let is_unauthenticated = self.problem.code() == ProblemCode::Unauthenticated;
        let mut response = self.problem.into_response();
        if is_unauthenticated {
            let scheme = HeaderValue::from_static("Bearer realm=\"sagaline\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        if let Some(rate_status) = self.rate_status {
            rate_status.write(response.headers_mut());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Body, middleware, routing::get};
    use http::Method;
    use tower::ServiceExt;

    use super::*;
    use crate::load::Limits;

    /// Three routes that need a key, of which only two are declared.
    async fn status(path: &str) -> u16 {
        let state = ApiState::bare(Limits::default());
        let mut route_roles = RouteRoles::default();
        route_roles.declare("/health-report", Method::GET, RequiredRole::Key(KeyRole::Operate));
        route_roles.declare("/api/report", Method::GET, RequiredRole::Key(KeyRole::Read));
        let route_roles = Arc::new(route_roles);
        let authorize =
            move |state, request, next| super::authorize(state, Arc::clone(&route_roles), request, next);
        let reached = || get(async || "reached");
        let router = Router::new()
            .route("/health-report", reached())
            .route("/api/report", reached())
            .route("/api/forgotten", reached())
            .layer(middleware::from_fn_with_state(state.clone(), authorize))
            .with_state(state);
        let request = Request::get(path).body(Body::empty()).expect("a request");
        router.oneshot(request).await.expect("routers do not fail").status().as_u16()
    }

    #[tokio::test]
    async fn uncounted_routes_need_their_key_and_undeclared_routes_are_not_served() {
        assert_eq!(status("/api/report").await, 401);
        assert_eq!(status("/health-report").await, 401);
        assert_eq!(status("/api/forgotten").await, 500);
    }
}
