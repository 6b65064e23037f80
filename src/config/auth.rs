//! Settings of authentication: the auth file and the secret that signs tickets.

use std::path::PathBuf;

use crate::auth::{Auth, secret_of};
use crate::config::table::Values;
use crate::config::{SettingsMode, SettingsReader};
use crate::net::tls;

impl SettingsReader<'_> {
    /// Reads the auth file. Without one, authentication is off.
    pub(super) fn auth(&mut self, values: &Values, mode: SettingsMode) -> Auth {
        let path = values.auth_file.as_deref();
        let Some(path) = path.filter(|_| mode != SettingsMode::Ask) else {
            return Auth::off();
        };
        let share = u8::try_from(values.principal_share).unwrap_or(100);
        Auth::from_file(path, share).unwrap_or_else(|wrong| {
            for wrong in wrong {
                self.problem(format!("auth-file ({}): {wrong}", path.display()));
            }
            Auth::off()
        })
    }

    /// Reads the secret that signs tickets, and returns the path of its file.
    pub(super) fn ticket_secret(
        &mut self,
        values: &Values,
        auth: &Auth,
        mode: SettingsMode,
    ) -> Option<PathBuf> {
        let path = values.ticket_secret_file.clone()?;
        let read = tls::read_file(&path).and_then(|text| {
            secret_of(&text).map_err(|wrong| format!("{} {wrong}", path.display()))
        });
        match read {
            _ if mode == SettingsMode::Ask => {}
            _ if !auth.is_on() => self
                .problem("ticket-secret-file requires auth-file: without one there are no tickets"),
            Ok(secret) => auth.take_secret_from_file(&secret),
            Err(wrong) => self.problem(format!("ticket-secret-file: {wrong}")),
        }
        Some(path)
    }

    /// Refuses to listen on a non-loopback address without authentication, unless `insecure` is set.
    pub(super) fn check_exposure(&mut self, values: &Values, auth: &Auth, mode: SettingsMode) {
        let listen = values.listen;
        let allowed = listen.ip().is_loopback() || values.insecure || auth.is_on();
        if !allowed && mode != SettingsMode::Ask {
            self.problem(format!(
                "listen: {listen} can be reached from other machines, but authentication is off: set \
                 --auth-file, listen on 127.0.0.1, or set --insecure"
            ));
        }
    }
}
