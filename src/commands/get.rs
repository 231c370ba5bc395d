//! A question to the daemon on this host: one `GET` to its admin endpoint.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::config::{ListenAddress, Settings};
use crate::deadline::timeout;

/// Longer than the daemon takes to find out that its pipeline does not move.
const PATIENCE: Duration = Duration::from_secs(8);

/// Its pages are some kilobytes.
const MAX_BODY: usize = 1 << 20;

/// Where the daemon answers, or why nobody can be asked.
pub fn admin(settings: &Settings) -> Result<&ListenAddress, String> {
    let Some(at) = &settings.admin_listen else {
        return Err("admin.listen is \"\", so no daemon can be asked; set an address".to_owned());
    };
    if at.addresses.iter().any(|address| address.port() == 0) {
        return Err(format!(
            "admin.listen is {}, where the system chooses a port at each start; name the port",
            at.text
        ));
    }
    Ok(at)
}

/// Asks for a page. What went wrong is told with where.
pub async fn get(at: &ListenAddress, path: &str) -> Result<(StatusCode, Bytes), String> {
    match timeout(PATIENCE, ask_each(at, path)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("no daemon answers at {}: {error}", at.text)),
        Err(_) => Err(format!(
            "no daemon answers at {} within {PATIENCE:?}",
            at.text
        )),
    }
}

async fn ask_each(at: &ListenAddress, path: &str) -> Result<(StatusCode, Bytes), String> {
    let mut refused = None;
    for address in &at.addresses {
        let address = reachable(*address);
        match TcpStream::connect(address).await {
            Ok(stream) => {
                return ask(stream, address, path)
                    .await
                    .map_err(|error| error.to_string());
            }
            // The first address is the one that is there on every host.
            Err(error) => {
                refused.get_or_insert_with(|| error.to_string());
            }
        }
    }
    Err(refused.unwrap_or_default())
}

async fn ask(
    stream: TcpStream,
    host: SocketAddr,
    path: &str,
) -> Result<(StatusCode, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Its errors reach the request; its end is that of the runtime.
    tokio::spawn(connection);
    // Without the zone of a link-local address, which is no part of a host (RFC 6874).
    let host = SocketAddr::new(host.ip(), host.port());
    let request = Request::get(path)
        .header(HOST, host.to_string())
        .body(Empty::<Bytes>::new())?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await?;
    Ok((parts.status, body.to_bytes()))
}

/// Whoever listens everywhere is to be found here.
pub fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}
