//! The proxy before a TLS or HTTP sink: from the file, or, for https, from the
//! environment.

use crate::config::file::Sink;
use crate::config::problem::{Origin, Problem};
use crate::config::setting::quoted;
use crate::config::values::{Endpoint, Proxy, SinkUrl, is_exempt};

use super::{Environment, Report};

/// The proxy, if there is one for this sink.
pub fn find(sink: &mut Sink, around: &Environment, report: &mut Report) -> Option<Proxy> {
    // The endpoint for which the environment counts, too.
    let https = match &*sink.url {
        SinkUrl::Http {
            secure, endpoint, ..
        } => secure.then_some(endpoint),
        SinkUrl::Tls(_) => None,
        SinkUrl::Tcp(_) | SinkUrl::Udp(_) | SinkUrl::Stdout => {
            if sink.proxy.is_some() {
                report.problem(sink.proxy.refuse(
                    "is for tls://, https:// and http:// sinks; take it out or change sink.url",
                ));
            }
            return None;
        }
    };
    if sink.proxy.is_set() {
        return sink.proxy.as_ref().cloned();
    }
    let (name, from_environment) = around.proxy_for(https?)?;
    match Proxy::parse(from_environment) {
        Ok(proxy) => {
            let origin = Origin::Environment(name.to_owned());
            sink.proxy.show(quoted(&proxy.to_string()), origin);
            Some(proxy)
        }
        Err(message) => {
            let remedy = "or set sink.proxy = \"\" to connect without a proxy";
            report.problem(Problem::at(name.to_owned(), format!("{message}, {remedy}")));
            None
        }
    }
}

impl Environment {
    /// The proxy that the environment names for an `https` host, and the
    /// variable that names it.
    pub fn proxy_for(&self, endpoint: &Endpoint) -> Option<(&'static str, &str)> {
        let (name, proxy) = self.https_proxy.as_ref()?;
        let exempt = self
            .no_proxy
            .as_deref()
            .is_some_and(|list| is_exempt(endpoint, list));
        (!exempt).then_some((*name, proxy.as_str()))
    }
}
