//! A configuration made of files, and made again when they change.

use std::io;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use chrono::{DateTime, SecondsFormat, Utc};

use super::files::{TlsContents, TlsFileError, TlsFileKind, TlsPaths};
use super::identity::Validity;

/// What is made of the files.
pub(super) struct BuiltConfig<C> {
    pub(super) config: C,
    /// Of the own certificate; `None` without one.
    pub(super) validity: Option<Validity>,
}

/// Makes a configuration of files' contents.
pub(super) type ConfigBuilder<C> =
    Box<dyn Fn(&TlsContents) -> Result<BuiltConfig<C>, TlsFileError> + Send + Sync>;

/// The configuration in force. The files are followed until this is dropped.
pub(super) struct FollowedConfig<C> {
    current: RwLock<Arc<C>>,
}

impl<C: Send + Sync + 'static> FollowedConfig<C> {
    /// Makes the configuration, and again when the files have changed. `side` is the label `side` of
    /// the metrics.
    pub(super) fn open(
        side: &'static str,
        paths: TlsPaths,
        build: ConfigBuilder<C>,
    ) -> Result<Arc<Self>, TlsFileError> {
        let contents = paths.read()?;
        let built = build(&contents)?;
        // At the start there is nothing better, and the clock may be wrong.
        if let Some(problem) = built.validity.as_ref().and_then(|of| of.problem.as_ref()) {
            tracing::warn!(side, problem, "TLS begins with a certificate that others refuse");
        }
        let config = Arc::new(Self { current: RwLock::new(Arc::new(built.config)) });
        let mut follower = Follower {
            side,
            paths,
            build,
            config: Arc::downgrade(&config),
            seen: Ok(contents),
            is_new: false,
            expires: built.validity.map(|validity| validity.expires),
            is_current: true,
        };
        access::follow_files("tls-files", move || follower.read_again())
            .map_err(|error| thread_error(&error))?;
        Ok(config)
    }

    /// The configuration in force.
    pub(super) fn get(&self) -> Arc<C> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn thread_error(error: &io::Error) -> TlsFileError {
    TlsFileError::new(TlsFileKind::Certificate, format!("cannot be followed: {error}"))
}

struct Follower<C> {
    side: &'static str,
    paths: TlsPaths,
    build: ConfigBuilder<C>,
    config: Weak<FollowedConfig<C>>,
    /// What was read last, good or not.
    seen: Result<TlsContents, TlsFileError>,
    /// Whether that was read once only.
    is_new: bool,
    expires: Option<DateTime<Utc>>,
    /// Whether the configuration in force is that of the files.
    is_current: bool,
}

impl<C> Follower<C> {
    fn read_again(&mut self) -> ControlFlow<()> {
        let Some(config) = self.config.upgrade() else { return ControlFlow::Break(()) };
        let read = self.paths.read();
        if read != self.seen {
            (self.seen, self.is_new) = (read, true);
        } else if self.is_new {
            // Read twice: before, the files may be in the middle of a rotation.
            self.is_new = false;
            if let Err(error) = self.apply(&config) {
                self.report(&error);
            }
        }
        self.set_gauges();
        ControlFlow::Continue(())
    }

    fn apply(&mut self, config: &FollowedConfig<C>) -> Result<(), TlsFileError> {
        let built = (self.build)(self.seen.as_ref().map_err(Clone::clone)?)?;
        if let Some(Validity { problem: Some(problem), .. }) = &built.validity {
            return Err(TlsFileError::new(TlsFileKind::Certificate, problem.clone()));
        }
        *config.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(built.config);
        self.expires = built.validity.map(|validity| validity.expires);
        self.is_current = true;
        let labels = [("side", self.side), ("outcome", "loaded")];
        metrics::counter!("tls_files_loads_total", &labels).increment(1);
        let side = self.side;
        let expires = self.expires.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
        tracing::info!(side, expires, "the TLS files have changed and are in force");
        Ok(())
    }

    fn report(&mut self, error: &TlsFileError) {
        self.is_current = false;
        let labels = [("side", self.side), ("outcome", "refused")];
        metrics::counter!("tls_files_loads_total", &labels).increment(1);
        let path = self.paths.path_of(error.kind).map(|path| path.display().to_string());
        tracing::error!(
            side = self.side, path, %error, code = "VALIDATION_ERROR",
            "the new TLS files are refused; the old ones stay in force"
        );
    }

    /// Set each time: the recorder is installed after the first.
    fn set_gauges(&self) {
        let value = if self.is_current { 1.0 } else { 0.0 };
        metrics::gauge!("tls_files_are_current", "side" => self.side).set(value);
        if let Some(expires) = self.expires {
            // Seconds until the year 9999: exact as `f64`.
            #[allow(clippy::cast_precision_loss)]
            let seconds = expires.timestamp() as f64;
            metrics::gauge!("tls_certificate_expires_timestamp_seconds", "side" => self.side)
                .set(seconds);
        }
    }
}
