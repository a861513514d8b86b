//! Who did it, and from where.

use std::fmt::Display;

/// Actor where no clients are configured.
pub const ANONYMOUS_ACTOR: &str = "anonymous";

/// Whoever caused a change: the name of a client, of the machine's user, or of a part of the
/// platform; with the address or host that it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditActor {
    name: String,
    origin: String,
}

impl AuditActor {
    /// The caller of a running service: its client's name and its address.
    pub fn of_caller(client: Option<&str>, address: Option<impl Display>) -> Self {
        Self {
            name: client.unwrap_or(ANONYMOUS_ACTOR).to_owned(),
            origin: address.map_or_else(|| "unknown".to_owned(), |address| address.to_string()),
        }
    }

    /// The user of this machine who runs a command on the databases: `cli:NAME`, and the host.
    pub fn of_command() -> Self {
        let user = nix::unistd::geteuid();
        let name = nix::unistd::User::from_uid(user).ok().flatten().map(|user| user.name);
        let name = name.unwrap_or_else(|| user.to_string());
        Self { name: format!("cli:{name}"), origin: host_name() }
    }

    /// A part of the platform that changes something by itself, such as `configurator`.
    pub fn of_service(part: &str) -> Self {
        Self { name: format!("service:{part}"), origin: host_name() }
    }

    /// The same actor, from elsewhere.
    pub fn with_origin(self, origin: String) -> Self {
        Self { origin, ..self }
    }

    /// Name of the actor.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Address or host.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

fn host_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname");
    host.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
