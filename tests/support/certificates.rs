//! Makes certificates for mutual TLS.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::fs;
use std::net::UdpSocket;
use std::path::Path;

/// Holds a certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Ray's TLS takes a certificate whose subject and issuer have one name for one that signed itself.
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of a test");
        let key = KeyPair::generate().expect("key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("authority");
        Self { issuer }
    }

    /// Writes `tls.crt`, `tls.key` and `ca.crt` for every address a node of a test can have, as KubeRay mounts them.
    pub fn issue_into(&self, dir: &Path) {
        let mut names = vec!["localhost".to_owned(), machine_address()];
        names.extend((1..16).map(|last| format!("127.0.0.{last}")));
        let params = CertificateParams::new(names).expect("addresses");
        let key = KeyPair::generate().expect("key");
        let cert = params.signed_by(&key, &self.issuer).expect("certificate");
        fs::write(dir.join("tls.crt"), cert.pem()).expect("tls.crt");
        fs::write(dir.join("tls.key"), key.serialize_pem()).expect("tls.key");
        fs::write(dir.join("ca.crt"), self.issuer.pem()).expect("ca.crt");
    }
}

/// Returns the address that Ray takes for the machine's own, in place of 127.0.0.1.
fn machine_address() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("socket");
    // Sends nothing; only asks for the route. Without one Ray stays with 127.0.0.1.
    match socket
        .connect("8.8.8.8:80")
        .and_then(|()| socket.local_addr())
    {
        Ok(address) => address.ip().to_string(),
        Err(_) => "127.0.0.1".to_owned(),
    }
}
