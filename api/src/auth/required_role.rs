//! The role that each route needs.

use std::collections::HashMap;

use http::Method;
use shop::keys::KeyRole;

/// The role that a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequiredRole {
    /// None: everyone may call it.
    Public,
    /// A key with this role, or one that includes it.
    Key(KeyRole),
}

impl RequiredRole {
    /// The name in the OpenAPI document, `x-required-role`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Key(role) => role.name(),
        }
    }

    /// A sentence for the description of an operation: Swagger UI does not show `x-required-role`.
    pub(crate) fn sentence(self) -> String {
        match self {
            Self::Public => "Needs no API key.".into(),
            Self::Key(role) => format!("Needs an API key with at least the role `{}`.", role.name()),
        }
    }
}

/// The role that each route needs, by path and method.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteRoles(HashMap<String, Vec<(Method, RequiredRole)>>);

impl RouteRoles {
    /// The role that a method of a path needs; `None` when none is declared. A HEAD needs what its GET does.
    pub(crate) fn of(&self, path: &str, method: &Method) -> Option<RequiredRole> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.0.get(path)?.iter().find(|(declared, _)| declared == method).map(|(_, required)| *required)
    }

    /// The declared methods of a path, as the `Allow` header lists them; `None` when there are none.
    pub(crate) fn allow(&self, path: &str) -> Option<String> {
        let mut methods: Vec<&str> = self.0.get(path)?.iter().map(|(method, _)| method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.sort_unstable();
        Some(methods.join(","))
    }

    /// All declared paths.
    #[cfg(test)]
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Every declared path with its method and role.
    #[cfg(test)]
    pub(crate) fn declared(&self) -> impl Iterator<Item = (&str, &Method, RequiredRole)> {
        self.0.iter().flat_map(|(path, methods)| {
            methods.iter().map(move |(method, required)| (path.as_str(), method, *required))
        })
    }

    /// Declares the role of a method of a path.
    pub(crate) fn declare(&mut self, path: &str, method: Method, required: RequiredRole) {
        self.0.entry(path.to_owned()).or_default().push((method, required));
    }
}

/// Whether calls of this path count against the rate limit. Health checks do not: they have to be answered whatever
/// else comes from the same address.
pub(crate) fn is_limited(path: &str) -> bool {
    !path.starts_with("/health")
}
