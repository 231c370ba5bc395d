//! The proxy before an HTTP sink: from the file, or from the environment.

use crate::config::source::{Origin, Source, quoted};
use crate::config::values::{Endpoint, Proxy, SinkUrl, is_exempt};

use super::Surroundings;

/// The proxy, if there is one for this sink.
pub fn find(source: &mut Source, url: &SinkUrl, around: &Surroundings) -> Option<Proxy> {
    let SinkUrl::Http {
        secure, endpoint, ..
    } = url
    else {
        let is_empty = |text: &str| Ok::<_, String>(text.is_empty());
        if source.secret("sink.proxy", is_empty) == Some(false) {
            source.refuse(
                "sink.proxy",
                "is for https:// and http:// sinks; take it out or change sink.url",
            );
        }
        return None;
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
    if origin != Origin::Default || !secure {
        return None;
    }
    let from_environment = around.proxy_for(endpoint)?;
    let name = "HTTPS_PROXY".to_owned();
    match Proxy::parse(from_environment) {
        Ok(proxy) => {
            let origin = Origin::Environment(name);
            source.show("sink.proxy", quoted(&proxy.to_string()), origin);
            Some(proxy)
        }
        Err(message) => {
            source.problem(name, message);
            None
        }
    }
}

impl Surroundings {
    /// The proxy that the environment names for an `https` host.
    pub fn proxy_for(&self, endpoint: &Endpoint) -> Option<&str> {
        let proxy = self.https_proxy.as_deref();
        let exempt = self
            .no_proxy
            .as_deref()
            .is_some_and(|list| is_exempt(&endpoint.host, list));
        proxy.filter(|text| !text.is_empty() && !exempt)
    }
}
