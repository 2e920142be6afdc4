//! The real API server: etcd and kube-apiserver as processes.

use super::kube::ADMIN_TOKEN;
use super::process::{Program, Running, Start as _};
use super::{free_port, kube_binaries};
use std::fs;
use std::path::Path;
use std::sync::Mutex;

/// An API server as processes, ended when dropped.
#[derive(Debug)]
pub struct RealKube {
    server: Mutex<Running>,
    /// None while it is killed.
    etcd: Mutex<Option<Running>>,
    server_program: Program,
    etcd_program: Program,
}

impl RealKube {
    /// Starts etcd and an API server, which keep their files in `folder`, and returns the port.
    pub fn start(folder: &Path) -> (Self, u16) {
        let programs = kube_binaries::folder_with(&["etcd", "kube-apiserver"]);
        let etcd_port = free_port();
        let etcd_program = etcd(&programs, folder, etcd_port);
        let etcd = Mutex::new(Some(etcd_program.start()));
        let port = free_port();
        write_credentials(folder);
        let server_program = server(&programs, folder, etcd_port, port);
        let server = Mutex::new(server_program.start());
        let real = Self {
            server,
            etcd,
            server_program,
            etcd_program,
        };
        (real, port)
    }

    /// Kills the API server, as a crash would.
    pub fn kill(&self) {
        self.server.lock().unwrap().end();
    }

    /// Kills the API server and etcd, as a lost machine would.
    pub fn kill_with_store(&self) {
        self.kill();
        *self.etcd.lock().unwrap() = None;
    }

    /// Starts the API server again on the same port, and etcd where it was killed.
    pub fn restart(&self) {
        let start_etcd = || self.etcd_program.start();
        self.etcd.lock().unwrap().get_or_insert_with(start_etcd);
        *self.server.lock().unwrap() = self.server_program.start();
    }

    /// Returns true when the API server has ended.
    pub fn has_ended(&self) -> bool {
        self.server.lock().unwrap().exit_code().is_some()
    }

    /// Returns the end of the API server's log.
    pub fn log_tail(&self) -> String {
        self.server.lock().unwrap().log_tail()
    }
}

fn write_credentials(folder: &Path) {
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(folder.join("service-accounts.key"), key.serialize_pem()).unwrap();
    fs::write(folder.join("service-accounts.pub"), key.public_key_pem()).unwrap();
    let tokens = format!("{ADMIN_TOKEN},admin,1,\"system:masters\"\n");
    fs::write(folder.join("tokens.csv"), tokens).unwrap();
}

fn etcd(programs: &Path, folder: &Path, port: u16) -> Program {
    let (client, peer) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{}", free_port()),
    );
    Program::new(programs.join("etcd"), folder.join("etcd.log"))
        .arg(format!("--data-dir={}/etcd", folder.display()))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!("--initial-cluster=default={peer}"))
        .arg("--unsafe-no-fsync")
        .arg("--log-level=error")
}

fn server(programs: &Path, folder: &Path, etcd_port: u16, port: u16) -> Program {
    let folder_text = folder.display();
    Program::new(
        programs.join("kube-apiserver"),
        folder.join("apiserver.log"),
    )
    .arg(format!("--etcd-servers=http://127.0.0.1:{etcd_port}"))
    .arg(format!("--secure-port={port}"))
    .arg("--bind-address=127.0.0.1")
    .arg(format!("--cert-dir={folder_text}/certs"))
    .arg(format!(
        "--service-account-key-file={folder_text}/service-accounts.pub"
    ))
    .arg(format!(
        "--service-account-signing-key-file={folder_text}/service-accounts.key"
    ))
    .arg("--service-account-issuer=https://kubernetes.default.svc")
    .arg("--service-cluster-ip-range=10.0.0.0/24")
    .arg("--authorization-mode=RBAC")
    .arg(format!("--token-auth-file={folder_text}/tokens.csv"))
    .arg("--disable-admission-plugins=ServiceAccount")
    .arg("--allow-privileged=true")
}
