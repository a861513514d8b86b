//! Fake network: the test controls name resolution, and every address leads to one server.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use events::task_types::http_request::WebhookNetwork;
use futures::future::BoxFuture;
use tokio::net::TcpStream;

/// A public address; connections to it go to the test's server.
pub const PUBLIC: &str = "93.184.216.34";

/// Successive DNS answers of a name; the last one repeats.
type Answers = Vec<Vec<IpAddr>>;

pub struct Staged {
    server: SocketAddr,
    names: Mutex<HashMap<String, Answers>>,
    dialed: Mutex<Vec<SocketAddr>>,
}

impl Staged {
    /// A network in which every address leads to this server.
    pub fn before(server: SocketAddr) -> Arc<Self> {
        Arc::new(Self { server, names: Mutex::default(), dialed: Mutex::default() })
    }

    /// Registers a name with its successive DNS answers.
    pub fn name(&self, name: &str, answers: &[&[&str]]) {
        let parse = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        self.names.lock().unwrap().insert(name.to_owned(), answers.iter().map(parse).collect());
    }

    /// Addresses dialed since the last call.
    pub fn dialed(&self) -> Vec<String> {
        let dialed = std::mem::take(&mut *self.dialed.lock().unwrap());
        dialed.iter().map(|address| address.ip().to_string()).collect()
    }
}

impl WebhookNetwork for Staged {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, std::io::Result<Vec<SocketAddr>>> {
        let mut names = self.names.lock().unwrap();
        let found = match names.get_mut(host) {
            Some(answers) if answers.len() > 1 => answers.remove(0),
            Some(answers) => answers[0].clone(),
            None => {
                return Box::pin(std::future::ready(Err(std::io::Error::other("no such name"))));
            }
        };
        let found = found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn dial(&self, address: SocketAddr) -> BoxFuture<'_, std::io::Result<TcpStream>> {
        self.dialed.lock().unwrap().push(address);
        Box::pin(TcpStream::connect(self.server))
    }
}
