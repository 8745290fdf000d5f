//! The mail server of a URL, and how to connect to it. An option that is not known is an error: if it were ignored, a
//! password could be sent in the clear.

use std::{borrow::Cow, net::IpAddr};

use lettre::transport::smtp::{
    authentication::Credentials,
    client::TlsParameters,
    extension::{ClientId, Extension},
};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::{
    connection::{Connection, ConnectionError},
    settings::SmtpSettings,
};

pub(super) struct Server {
    host: String,
    port: u16,
    tls: Tls,
    hello: ClientId,
    credentials: Option<Credentials>,
}

/// How the connection is encrypted.
enum Tls {
    Never,
    /// With STARTTLS, if the server offers it.
    IfOffered(TlsParameters),
    /// With STARTTLS; without it, nothing is sent.
    Required(TlsParameters),
    /// With TLS from the first byte.
    Wrapped(TlsParameters),
}

impl Server {
    /// Parses `smtp://…` or `smtps://…`; the error never repeats the URL.
    pub(super) fn parse(url: &str) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        let host = match url.host() {
            Some(Host::Domain(host)) if !host.is_empty() => host.to_owned(),
            Some(Host::Ipv4(host)) => host.to_string(),
            Some(Host::Ipv6(host)) => host.to_string(),
            Some(Host::Domain(_)) | None => return Err("it has no host".into()),
        };
        if url.fragment().is_some() {
            return Err("what is behind `#` means nothing".into());
        }
        let parameters = || TlsParameters::new(host.clone()).map_err(|error| error.to_string());
        let (tls, usual_port) = match (url.scheme(), tls_option(&url)?.as_deref()) {
            ("smtp", None) => (Tls::Never, 25),
            ("smtp", Some("opportunistic")) => (Tls::IfOffered(parameters()?), 587),
            ("smtp", Some("required")) => (Tls::Required(parameters()?), 587),
            ("smtp", Some(_)) => return Err("`tls` is `required` or `opportunistic`".into()),
            ("smtps", None) => (Tls::Wrapped(parameters()?), 465),
            ("smtps", Some(_)) => {
                return Err("`smtps` is encrypted from the first byte: it takes no `tls`".into());
            }
            _ => return Err("it begins neither with `smtp://` nor with `smtps://`".into()),
        };
        let hello = match url.path().trim_matches('/') {
            "" => ClientId::default(),
            name => ClientId::Domain(name.to_owned()),
        };
        let port = url.port().unwrap_or(usual_port);
        Ok(Self { credentials: credentials(&url)?, host, port, tls, hello })
    }

    /// Connects, reads the greeting, encrypts, and logs in. A rejection at any of these stages concerns all our mails.
    pub(super) async fn connect(&self, settings: &SmtpSettings) -> Result<Connection, ConnectionError> {
        let wrapped = match &self.tls {
            Tls::Wrapped(parameters) => Some(parameters.clone()),
            Tls::Never | Tls::IfOffered(_) | Tls::Required(_) => None,
        };
        let address = (self.host.as_str(), self.port);
        let mut connection = Connection::open(address, settings.connect_timeout, wrapped).await?;
        connection.hello(&self.hello).await?;
        match &self.tls {
            Tls::IfOffered(parameters) if connection.offers(Extension::StartTls) => {
                connection.start_tls(parameters.clone(), &self.hello).await?;
            }
            Tls::Required(parameters) => connection.start_tls(parameters.clone(), &self.hello).await?,
            Tls::Never | Tls::IfOffered(_) | Tls::Wrapped(_) => {}
        }
        if let Some(credentials) = &self.credentials {
            connection.log_in(credentials).await?;
        }
        Ok(connection)
    }

    pub(super) fn may_log_in_in_the_clear(&self) -> bool {
        let is_encrypted = match self.tls {
            Tls::Never | Tls::IfOffered(_) => false,
            Tls::Required(_) | Tls::Wrapped(_) => true,
        };
        self.credentials.is_some() && !is_encrypted && !self.is_on_this_machine()
    }

    /// Whether the server runs on this machine.
    pub(super) fn is_on_this_machine(&self) -> bool {
        let is_loopback = |host: &str| host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
        self.host == "localhost" || self.host.ends_with(".localhost") || is_loopback(&self.host)
    }
}

fn tls_option(url: &Url) -> Result<Option<String>, String> {
    let mut options = url.query_pairs();
    match (options.next(), options.next()) {
        (None, _) => Ok(None),
        (Some((name, value)), None) if name == "tls" => Ok(Some(value.into_owned())),
        (Some((name, _)), None) => Err(format!("there is no option `{name}`, only `tls`")),
        (Some(_), Some(_)) => Err("it takes one option, `tls`".into()),
    }
}

fn credentials(url: &Url) -> Result<Option<Credentials>, String> {
    let decoded = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(Cow::into_owned).map_err(|_| "user and password are to be UTF-8, percent-encoded".to_owned())
    };
    match (url.username(), url.password()) {
        ("", None) => Ok(None),
        ("", Some(_)) => Err("it has a password and no user".into()),
        (_, None) => Err("it has a user and no password".into()),
        (user, Some(password)) => Ok(Some(Credentials::new(decoded(user)?, decoded(password)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Server::parse(url).err().unwrap_or_else(|| panic!("{url} is taken"))
    }

    #[test]
    fn a_url_says_host_port_and_name() {
        let plain = Server::parse("smtp://mail.example.com").unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("mail.example.com", 25));
        let named = Server::parse("smtp://[::1]:2525/shop.example.com").unwrap();
        assert_eq!((named.host.as_str(), named.port), ("::1", 2525));
        assert_eq!(named.hello, ClientId::Domain("shop.example.com".into()));
        assert_eq!(Server::parse("smtp://h?tls=required").unwrap().port, 587);
        assert_eq!(Server::parse("smtps://h").unwrap().port, 465);
    }

    #[test]
    fn user_and_password_are_percent_decoded() {
        let server = Server::parse("smtps://shop%40example.com:p%C3%A4%25ss@h").unwrap();
        assert!(server.credentials == Some(Credentials::new("shop@example.com".into(), "pä%ss".into())));
        let server = Server::parse("smtps://shop:50%@h").unwrap();
        assert!(
            server.credentials == Some(Credentials::new("shop".into(), "50%".into())),
            "a lone % is itself"
        );
        assert!(refusal("smtps://shop:%FF@h").contains("UTF-8"));
    }

    #[test]
    fn ambiguous_urls_are_refused() {
        for (url, part) in [
            ("smtp://user:pw@host:587?starttls=required", "no option `starttls`"),
            ("smtp://user:pw@host?TLS=required", "no option `TLS`"),
            ("smtp://host?tls=perhaps", "`required` or `opportunistic`"),
            ("smtp://host?tls=", "`required` or `opportunistic`"),
            ("smtp://host?tls=required&tls=opportunistic", "one option"),
            ("smtps://host?tls=none", "takes no `tls`"),
            ("smtp://user@host", "no password"),
            ("smtp://:pw@host", "no user"),
            ("smtp://host#tls=required", "`#`"),
            ("http://host", "neither"),
            ("smtp://", "host"),
            ("mail.example.com:25", "host"),
        ] {
            let refusal = refusal(url);
            assert!(refusal.contains(part), "{url}: {refusal}");
            assert!(!refusal.contains("pw"), "{refusal}");
        }
    }
}
