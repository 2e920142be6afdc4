//! The image: its files are made as the Dockerfile says, and run as KubeRay starts them.
//!
//! Docker is not needed: the steps that make files are `make` targets, and a root file system is
//! entered with `unshare` and `chroot`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::free_port;
use crate::support::kube::{KubeApi, Server};
use crate::support::process::{Program, Running, Start as _};
use crate::support::raycluster::Manifest;
use crate::support::stand_ins::{DEADLINE, StandIns};
use crate::text;
use rayscaler::embedded::pods::Pretend;

/// The program and its names; with a whole C library and its cryptography it is most of the image.
const BYTES_MAX: u64 = 16 * 1024 * 1024;

/// The start command of every KubeRay.
const LINE: &str = "ray kuberay-autoscaler --cluster-name demo --cluster-namespace NAMESPACE";

/// A line of the Dockerfile: its first word, and the rest.
type Instruction = (String, String);

/// Returns the instructions of the Dockerfile: before the last `FROM`, and from it on.
fn instructions() -> (Vec<Instruction>, Vec<Instruction>) {
    let text = text("deploy/Dockerfile");
    let lines = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let all: Vec<Instruction> = lines
        .map(|line| {
            let (word, rest) = line.split_once(' ').unwrap();
            (word.to_owned(), rest.to_owned())
        })
        .collect();
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    (all[..last].to_vec(), all[last..].to_vec())
}

fn of<'a>(instructions: &'a [Instruction], word: &str) -> Vec<&'a str> {
    let found = instructions.iter().filter(|(name, _)| name == word);
    found.map(|(_, rest)| rest.as_str()).collect()
}

#[test]
fn the_dockerfile_copies_what_make_makes_and_needs_no_rights() {
    let (build, image) = instructions();
    let version = env!("CARGO_PKG_RUST_VERSION");
    assert!(
        build[0].1.starts_with(&format!("rust:{version}-")),
        "{}",
        build[0].1
    );
    assert_eq!(of(&build, "WORKDIR"), ["/src"]);
    assert_eq!(of(&build, "RUN").last(), Some(&"make rootfs"));
    assert_eq!(of(&image, "FROM"), ["scratch"]);
    assert_eq!(of(&image, "COPY"), ["--from=build /src/target/rootfs/ /"]);
    assert_eq!(of(&image, "USER"), ["1000:1000"]);
    assert_eq!(of(&image, "ENTRYPOINT"), ["[\"/rayscaler\"]"]);
    assert!(text("Makefile").contains("TARGET := $(or $(CARGO_TARGET_DIR),target)\n"));
    assert!(text("Makefile").contains("ROOTFS ?= $(TARGET)/rootfs\n"));
}

/// Makes the image's files in `root` of a folder, as the Dockerfile does.
///
/// The first time takes some minutes, as the program has to be built.
fn image() -> tempfile::TempDir {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let rootfs = format!("ROOTFS={}", folder.path().join("root").display());
    let (build, _) = instructions();
    let steps = of(&build, "RUN").into_iter();
    for step in steps.filter_map(|step| step.strip_prefix("make ")) {
        make(&[step, &rootfs]);
    }
    folder
}

/// Runs make in the project.
pub(crate) fn make(arguments: &[&str]) {
    let mut command = Command::new("make");
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // An outer make would have us share its jobs. What cargo tells a test of its package would reach the
    // build scripts of others, and have them and all that needs them built anew.
    let is_outer = |name: &str| {
        [
            "MAKE",
            "MFLAGS",
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_CRATE_",
        ]
        .iter()
        .any(|beginning| name.starts_with(beginning))
    };
    for (name, _) in std::env::vars_os() {
        if is_outer(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    let made = command.output().unwrap();
    let errors = String::from_utf8_lossy(&made.stderr);
    assert!(made.status.success(), "make {arguments:?}:\n{errors}");
}

/// Returns the paths of all files and links below a folder, each with its size.
fn files(folder: &Path, base: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let about = fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            found.extend(files(&path, base));
        } else {
            let name = path.strip_prefix(base).unwrap().display().to_string();
            found.push((name, about.len()));
        }
    }
    found
}

#[test]
fn the_image_is_one_static_program_under_every_name_that_kuberay_starts() {
    let image = image();
    let root = &image.path().join("root");
    let files = files(root, root);
    let names: BTreeSet<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let expected = [
        "bin/bash",
        "etc/group",
        "etc/passwd",
        "rayscaler",
        "usr/bin/ray",
        "usr/bin/rayscaler",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    for link in ["bin/bash", "usr/bin/ray", "usr/bin/rayscaler"] {
        assert_eq!(
            fs::read_link(root.join(link)).unwrap(),
            Path::new("/rayscaler")
        );
    }
    let bytes: u64 = files.iter().map(|(_, bytes)| bytes).sum();
    writeln!(
        std::io::stdout().lock(),
        "the image's root file system: {bytes} bytes"
    )
    .unwrap();
    assert!(bytes < BYTES_MAX, "{bytes}");
    let program = fs::read(root.join("rayscaler")).unwrap();
    assert_eq!(&program[..5], b"\x7fELF\x02");
    assert!(
        !segment_kinds(&program).contains(&PT_INTERP),
        "it asks for a loader"
    );
}

/// The segment that names the dynamic loader.
const PT_INTERP: u32 = 3;

/// Returns the kinds of the segments of a 64-bit little-endian ELF file.
fn segment_kinds(elf: &[u8]) -> Vec<u32> {
    let number = |at: usize, length: usize| {
        let bytes = elf[at..at + length].iter().rev();
        bytes.fold(0_usize, |sum, byte| (sum << 8) | usize::from(*byte))
    };
    let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    let kinds = (0..count).map(|index| number(start + index * size, 4));
    kinds.map(|kind| u32::try_from(kind).unwrap()).collect()
}

/// How a root file system can be entered here.
#[derive(Clone, Copy)]
enum Entry {
    /// As root: mounts of its own, and the image's user inside.
    Root,
    /// In a user namespace, where our own user is root.
    UserNamespace,
}

/// Makes the root read-only and gives it /proc, as a container runtime does.
const ENTER: &str = r#"
root=$1; shift
mount --bind "$root" "$root" && mount --rbind /proc "$root/proc" &&
mount -o remount,bind,ro,nosuid,nodev "$root" && exec "$@"
"#;

impl Entry {
    /// Returns the first way that is allowed here.
    fn find() -> Option<Self> {
        [Self::Root, Self::UserNamespace].into_iter().find(|entry| {
            let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            fs::create_dir(folder.path().join("proc")).unwrap();
            let mut command = Command::new("unshare");
            command.args(entry.flags()).args(["sh", "-c", ENTER, "sh"]);
            let tried = command.arg(folder.path()).arg("true").output();
            tried.is_ok_and(|tried| tried.status.success())
        })
    }

    const fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Root => &["--mount"],
            Self::UserNamespace => &["--user", "--map-root-user", "--mount"],
        }
    }
}

/// A pod's container: the image's files with what a pod adds, and its environment.
struct ContainerOf<'a> {
    entry: Entry,
    root: &'a Path,
    env: Vec<String>,
}

impl ContainerOf<'_> {
    /// Starts a command line in it.
    fn start(&self, argv: &[String], port: u16, log: &Path) -> Running {
        let chroot = [
            "/usr/sbin/chroot",
            "/usr/bin/chroot",
            "/sbin/chroot",
            "/bin/chroot",
        ];
        let chroot = chroot
            .into_iter()
            .find(|path| Path::new(path).exists())
            .unwrap();
        let mut program = Program::new("unshare", log);
        let mut add = |word: &str| program.args.push(word.to_owned());
        self.entry.flags().iter().for_each(|flag| add(flag));
        [
            "sh",
            "-c",
            ENTER,
            "sh",
            &self.root.display().to_string(),
            "env",
            "-i",
        ]
        .into_iter()
        .for_each(&mut add);
        self.env.iter().for_each(|it| add(it));
        add(&format!("AUTOSCALER_METRIC_PORT={port}"));
        add(chroot);
        if matches!(self.entry, Entry::Root) {
            add("--userspec=1000:1000");
        }
        add(&self.root.display().to_string());
        argv.iter().for_each(|word| add(word));
        program.start()
    }
}

/// Every command line that KubeRay makes of what a user may set.
fn command_lines(namespace: &str) -> Vec<(&'static str, Vec<String>)> {
    let line = LINE.replace("NAMESPACE", namespace);
    let words: Vec<&str> = line.split(' ').collect();
    let own = format!("rayscaler run --cluster-name=demo --cluster-namespace={namespace}");
    let both: Vec<&str> = own.split(' ').collect();
    let sample = "echo \"hello\"; $KUBERAY_GEN_AUTOSCALER_START_CMD";
    let all: [(&str, Vec<&str>); 8] = [
        ("KubeRay 1.1", words),
        ("KubeRay 1.2 and 1.3", vec!["/bin/bash", "-lc", "--", &line]),
        (
            "KubeRay 1.4 and later",
            vec!["/bin/bash", "-c", "--", &line],
        ),
        (
            "KubeRay 1.4 and later with a login shell",
            vec!["/bin/bash", "-cl", "--", &line],
        ),
        ("command alone", vec!["/rayscaler", &line]),
        ("args alone", vec!["/bin/bash", "-c", "--", &own]),
        ("command and args", [&["/rayscaler"], &both[1..]].concat()),
        (
            "KubeRay's sample with a command of its own",
            vec!["/bin/bash", "-lc", "--", sample],
        ),
    ];
    let owned = all
        .into_iter()
        .map(|(name, argv)| (name, argv.into_iter().map(str::to_owned).collect()));
    owned.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_image_runs_in_every_way_that_kuberay_starts_it() {
    let Some(entry) = Entry::find() else {
        let text = "left out: the_image_runs_in_every_way_that_kuberay_starts_it; \
                    neither root nor user namespaces are allowed here";
        writeln!(std::io::stdout().lock(), "{text}").unwrap();
        return;
    };
    let stand_ins = StandIns::start(Server::Real, Pretend::default()).await;
    let manifest = Manifest::of(crate::deployed_as("raycluster.yaml"));
    // Nobody listens there: reading the RayCluster is as far as this test goes.
    let manifest = manifest.head_param("port", &free_port().to_string());
    stand_ins
        .create(&manifest)
        .await
        .wait_for_pods("headgroup", 1)
        .await;
    let namespace = stand_ins.namespace.clone();
    let folder = image();
    let root = folder.path().join("root");
    as_in_a_pod(&root, stand_ins.api, &namespace).await;
    let port_of_api = stand_ins.api.url().rsplit(':').next().unwrap().to_owned();
    let env = |host: &str| {
        let (_, image) = instructions();
        vec![
            of(&image, "ENV")[0].to_owned(),
            format!("KUBERNETES_SERVICE_HOST={host}"),
            format!("KUBERNETES_SERVICE_PORT_HTTPS={port_of_api}"),
            "RAY_CLUSTER_NAME=demo".to_owned(),
            format!("RAY_CLUSTER_NAMESPACE={namespace}"),
            format!(
                "KUBERAY_GEN_AUTOSCALER_START_CMD={}",
                LINE.replace("NAMESPACE", &namespace)
            ),
        ]
    };
    // A name shows that a static program finds hosts without the libraries that look them up.
    for (host, lines) in [
        ("127.0.0.1", command_lines(&namespace)),
        (
            "kubernetes.default",
            command_lines(&namespace)[..1].to_vec(),
        ),
    ] {
        let container = ContainerOf {
            entry,
            root: &root,
            env: env(host),
        };
        for (name, argv) in lines {
            let log = folder.path().join("log");
            fs::write(&log, "").unwrap();
            runs(&container, name, &argv, &log).await;
        }
    }
    stand_ins.end().await;
}

/// Starts one command line, and sees it read the RayCluster, answer, and stop when told.
async fn runs(container: &ContainerOf<'_>, name: &str, argv: &[String], log: &Path) {
    let port = free_port();
    let running = container.start(argv, port, log);
    let said = || fs::read_to_string(log).unwrap_or_default();
    let waiting = async {
        while !said().contains("waiting for the gcs") {
            assert_eq!(running.exit_code(), None, "{name}: {}", said());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    assert!(waited.is_ok(), "{name} {argv:?}:\n{}", said());
    let health = reqwest::get(format!("http://127.0.0.1:{port}/livez"))
        .await
        .unwrap();
    assert_eq!(health.status(), 200, "{name}");
    let id = running.pid();
    let seen_root = fs::read_link(format!("/proc/{id}/root")).unwrap();
    assert!(
        seen_root == container.root || matches!(container.entry, Entry::UserNamespace),
        "{}",
        seen_root.display()
    );
    if matches!(container.entry, Entry::Root) {
        assert_eq!(
            fs::metadata(format!("/proc/{id}")).unwrap().uid(),
            1000,
            "{name}"
        );
    }
    let probe = container.start(
        &["/rayscaler", "health", "--path=/livez"].map(str::to_owned),
        port,
        log,
    );
    assert_eq!(
        probe.wait(Duration::from_secs(30)).await,
        Some(0),
        "{name}: {}",
        said()
    );
    running.signal("TERM").unwrap();
    assert_eq!(
        running.wait(Duration::from_secs(30)).await,
        Some(0),
        "{name}: {}",
        said()
    );
}

/// Adds what a pod brings: token, certificate, hosts, places to mount at.
async fn as_in_a_pod(root: &Path, api: &KubeApi, namespace: &str) {
    let account = root.join("var/run/secrets/kubernetes.io/serviceaccount");
    fs::create_dir_all(&account).unwrap();
    fs::create_dir(root.join("proc")).unwrap();
    fs::write(
        account.join("token"),
        api.sidecar_token(namespace, "demo").await,
    )
    .unwrap();
    fs::copy(api.ca_file(), account.join("ca.crt")).unwrap();
    fs::write(account.join("namespace"), namespace).unwrap();
    fs::write(root.join("etc/hosts"), "127.0.0.1 kubernetes.default\n").unwrap();
    for path in ["", "var/run/secrets/kubernetes.io/serviceaccount/ca.crt"] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(0o755)).unwrap();
    }
}
