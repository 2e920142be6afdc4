//! Ports for the programs that the stand-ins start.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below what Linux gives to connections and to whoever asks for any port, which would take one of them before
/// its program listens, and above the ports of Ray's workers.
const PORTS: Range<u16> = 20_000..32_000;

/// Returns a TCP port that nobody listens at, at no address of the machine, another one each time.
///
/// # Errors
///
/// There is none.
pub fn free_port() -> io::Result<u16> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    for _ in PORTS {
        // Processes that run side by side begin at different places.
        let step = std::process::id().wrapping_mul(97);
        let step = step.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let count = u32::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(step % count).unwrap_or_default();
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    let problem = format!("none of {PORTS:?} is free");
    Err(io::Error::new(io::ErrorKind::AddrInUse, problem))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{Ipv4Addr, TcpListener};

    use super::{PORTS, free_port};

    #[test]
    fn each_port_is_free_and_another_one() {
        let held: Vec<TcpListener> = (0..100)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, free_port().unwrap())).unwrap())
            .collect();
        let ports = held.iter().map(|held| held.local_addr().unwrap().port());
        let ports: BTreeSet<u16> = ports.collect();
        assert_eq!(ports.len(), held.len());
        assert!(ports.iter().all(|port| PORTS.contains(port)), "{ports:?}");
    }
}
