//! Who may do what: named clients with tokens and scopes, read from a file that is followed while
//! the service runs.
//!
//! - Shape: an immutable [`AccessPolicy`] per version of the file, shared by all listeners through
//!   [`AccessControl`].
//! - Cost: per request one SHA-256 of the token and one look-up of it and of each name of the
//!   connection's certificate, and the check of a signature for the first call of a signed token; no
//!   I/O.
//! - Promise: a file that is empty, broken or open to others never replaces a good one, and never
//!   means "no credentials".

mod access_files;
mod calls_by_address;
mod certificate;
mod clients_file_error;
mod control;
mod credentials;
mod denied;
mod file;
mod follow;
mod followed_file;
mod identified;
mod identify;
mod peer_token;
mod place;
mod policy;
mod private_file;
mod request;
mod rules;
mod scope;
mod signed;
mod token;

pub use access_files::{AccessFiles, AccessFilesError};
pub use calls_by_address::client_network;
pub use certificate::ClientCertificate;
pub use clients_file_error::ClientsFileError;
pub use control::AccessControl;
pub use denied::{Denial, DenialReason};
pub use file::{parse_clients, read_clients_file};
pub use follow::follow_files;
pub use peer_token::{TokenFile, TokenFileError, bearer_header};
pub use policy::{AccessPolicy, Client};
pub use private_file::{PrivateFileError, read_private_file, read_trusted_file};
pub use request::RequestClient;
pub use scope::{GrantedScopes, RouteAccess, Scope};
pub use signed::{
    MAX_TOKEN_KEYS_FILE_BYTES, SignedTokenProblem, SignedTokenVerifier, TokenKeys, TokenKeysError,
    read_token_keys_file,
};
pub use token::{NewToken, TokenHash};
