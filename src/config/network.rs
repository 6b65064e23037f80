//! Settings of client connections and of client identification.

use crate::config::table::Values;
use crate::config::{SPECS, SettingsMode, SettingsReader};
use crate::net::ServerSettings;
use crate::net::client_limiter::ClientLimits;
use crate::net::forwarded::Proxies;
use crate::net::tls::TlsFiles;

impl SettingsReader<'_> {
    pub(super) fn server(&mut self, values: &Values, mode: SettingsMode) -> ServerSettings {
        ServerSettings {
            listen: values.listen,
            metrics_listen: values.metrics_listen,
            tls: self.tls(values, mode),
            max_connections: values.max_connections,
            max_streams: u32::try_from(values.max_streams_per_connection).unwrap_or(u32::MAX),
            max_header_size: values.max_header_size.0,
            handshake_timeout: values.tls_handshake_timeout,
            header_timeout: values.header_timeout,
            idle_timeout: values.idle_timeout,
            linger_timeout: values.linger_timeout,
            linger_bytes: values.linger_bytes.0,
            write_timeout: values.write_timeout,
            // The rest of the grace period is for requests that are still open then.
            lame_duck: values.lame_duck.min(values.shutdown_grace / 2),
            shutdown_grace: values.shutdown_grace,
            visitors: ClientLimits {
                rate: values.rate_per_address,
                max_addresses: values.max_addresses,
                max_connections: u32::try_from(values.max_connections_per_address)
                    .ok()
                    .filter(|most| *most > 0),
                proxies: Proxies {
                    trusted: values.trusted_proxy.clone(),
                    written: values.forwarded_header,
                },
            },
        }
    }

    fn tls(&mut self, values: &Values, mode: SettingsMode) -> Option<TlsFiles> {
        let (cert, key) = (values.tls_cert.clone(), values.tls_key.clone());
        let (cert, key) = self.both((&SPECS.tls_cert, cert), (&SPECS.tls_key, key))?;
        let files = TlsFiles { cert, key };
        if mode != SettingsMode::Ask {
            self.check_tls(&files, &SPECS.tls_cert, &SPECS.tls_key);
        }
        Some(files)
    }
}
