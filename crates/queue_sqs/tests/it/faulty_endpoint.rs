//! HTTP proxy in front of an SQS endpoint, one request per connection. It injects faults into
//! `SendMessage`: lost replies, cut connections, throttling, errors, hangs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// Fault injected into one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointFault {
    None,
    /// The call is executed, its reply is lost.
    ReplyLost,
    /// The request is dropped and the connection closed.
    Cut,
    Throttled,
    Failed,
    /// The request is dropped and the connection stays open.
    Hung,
    /// The queue refuses the message's size.
    TooLarge,
}

/// Maps the index of a `SendMessage` call to its fault.
pub type EndpointFaultPlan = fn(usize) -> EndpointFault;

pub struct FaultyEndpoint {
    pub port: u16,
    behind: u16,
    faults: EndpointFaultPlan,
    /// Number of injections per fault.
    pub injected: Arc<Mutex<BTreeMap<EndpointFault, usize>>>,
    listening: Option<JoinHandle<()>>,
}

impl FaultyEndpoint {
    /// Reserves a port without listening on it.
    pub fn away(behind: u16, faults: EndpointFaultPlan) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { port, behind, faults, injected: Arc::default(), listening: None }
    }

    pub fn start(behind: u16, faults: EndpointFaultPlan) -> Self {
        let mut endpoint = Self::away(behind, faults);
        endpoint.comes();
        endpoint
    }

    pub fn comes(&mut self) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], self.port))).unwrap();
        let listener = socket.listen(100).unwrap();
        let (behind, faults, injected) = (self.behind, self.faults, self.injected.clone());
        self.listening = Some(tokio::spawn(serve(listener, behind, faults, injected)));
    }

    /// Number of injections of this fault.
    pub fn count(&self, fault: EndpointFault) -> usize {
        self.injected.lock().unwrap().get(&fault).copied().unwrap_or_default()
    }
}

impl Drop for FaultyEndpoint {
    fn drop(&mut self) {
        self.listening.iter().for_each(JoinHandle::abort);
    }
}

async fn serve(
    listener: TcpListener,
    behind: u16,
    faults: EndpointFaultPlan,
    injected: Arc<Mutex<BTreeMap<EndpointFault, usize>>>,
) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let injected = injected.clone();
        tokio::spawn(async move {
            let fault = |request: &str| {
                if !request.to_ascii_lowercase().contains("amazonsqs.sendmessage") {
                    return EndpointFault::None;
                }
                let mut injected = injected.lock().unwrap();
                let fault = faults(injected.values().sum());
                *injected.entry(fault).or_default() += 1;
                fault
            };
            // A client that closes its connection gets no reply.
            let _ = exchange(client, behind, fault).await;
        });
    }
}

async fn exchange(
    mut client: TcpStream,
    behind: u16,
    fault: impl Fn(&str) -> EndpointFault,
) -> std::io::Result<()> {
    let Some((head, body)) = read_request(&mut client).await? else { return Ok(()) };
    match fault(&head) {
        EndpointFault::None => client.write_all(&forward(behind, &head, &body).await?).await,
        EndpointFault::ReplyLost => forward(behind, &head, &body).await.map(drop),
        EndpointFault::Cut => Ok(()),
        EndpointFault::Throttled => {
            client.write_all(refusal(400, "ThrottlingException").as_bytes()).await
        }
        EndpointFault::Failed => client.write_all(refusal(500, "InternalFailure").as_bytes()).await,
        EndpointFault::TooLarge => {
            client.write_all(refusal(400, "InvalidParameterValue").as_bytes()).await
        }
        EndpointFault::Hung => std::future::pending().await,
    }
}

fn refusal(status: u16, code: &str) -> String {
    let body = format!(
        "{{\"__type\":\"com.amazonaws.sqs#{code}\",\"message\":\"One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes.\"}}"
    );
    format!(
        "HTTP/1.1 {status} Refused\r\nContent-Type: application/x-amz-json-1.0\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Returns the head without its final empty line, and the body.
async fn read_request(client: &mut TcpStream) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if client.read_buf(&mut read).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&read[..end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let mut body = read.split_off(end + 4);
    while body.len() < length.unwrap_or_default() {
        if client.read_buf(&mut body).await? == 0 {
            return Ok(None);
        }
    }
    Ok(Some((head, body)))
}

/// Returns the complete reply; `Connection: close` marks its end.
async fn forward(behind: u16, head: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let kept = head.lines().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
    let head: String =
        kept.chain(["Connection: close"]).map(|line| format!("{line}\r\n")).collect();
    let mut endpoint = TcpStream::connect(("127.0.0.1", behind)).await?;
    endpoint.write_all(format!("{head}\r\n").as_bytes()).await?;
    endpoint.write_all(body).await?;
    let mut reply = Vec::new();
    endpoint.read_to_end(&mut reply).await?;
    Ok(reply)
}
