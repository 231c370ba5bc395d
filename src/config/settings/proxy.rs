//! The proxy before a TLS or HTTP sink: from the file, or, for https, from the
//! environment.

use crate::config::source::{Origin, Source, quoted};
use crate::config::values::{Endpoint, Proxy, SinkUrl, is_exempt};

use super::Surroundings;

/// The proxy, if there is one for this sink.
pub fn find(source: &mut Source, url: &SinkUrl, around: &Surroundings) -> Option<Proxy> {
    // The endpoint for which the environment counts, too.
    let https = match url {
        SinkUrl::Http {
            secure, endpoint, ..
        } => secure.then_some(endpoint),
        SinkUrl::Tls(_) => None,
        SinkUrl::Tcp(_) | SinkUrl::Udp(_) | SinkUrl::Stdout => {
            refuse_for_others(source);
            return None;
        }
    };
    let origin = source.origin("sink.proxy");
    let written = source.secret("sink.proxy", |text| match text {
        "" => Ok(None),
        text => Proxy::parse(text).map(Some),
    });
    if let Some(Some(proxy)) = written {
        source.show("sink.proxy", quoted(&proxy.to_string()), origin);
        return Some(proxy);
    }
    if origin != Origin::Default {
        return None;
    }
    let (name, from_environment) = around.proxy_for(https?)?;
    let name = name.to_owned();
    match Proxy::parse(from_environment) {
        Ok(proxy) => {
            let origin = Origin::Environment(name);
            source.show("sink.proxy", quoted(&proxy.to_string()), origin);
            Some(proxy)
        }
        Err(message) => {
            let remedy = "or set sink.proxy = \"\" to connect without a proxy";
            source.problem(name, format!("{message}, {remedy}"));
            None
        }
    }
}

fn refuse_for_others(source: &mut Source) {
    let is_empty = |text: &str| Ok::<_, String>(text.is_empty());
    if source.secret("sink.proxy", is_empty) == Some(false) {
        source.refuse(
            "sink.proxy",
            "is for tls://, https:// and http:// sinks; take it out or change sink.url",
        );
    }
}

impl Surroundings {
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
