//! A way to a server on which every byte of an answer takes its time.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Sleep;

/// A slow way, closed when dropped.
#[derive(Debug)]
pub(crate) struct SlowWay {
    /// Where it begins, `host:port`.
    pub address: String,
    task: JoinHandle<()>,
}

impl SlowWay {
    /// Opens a way to `target` on which answers are late by `delay`.
    pub(crate) async fn open(target: String, delay: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let target = target.clone();
                tokio::spawn(async move { carry(client, &target, delay).await });
            }
        });
        Self { address, task }
    }
}

impl Drop for SlowWay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(client: TcpStream, target: &str, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect(target).await?;
    let (mut questions, answers_to) = client.into_split();
    let (answers, mut questions_to) = server.into_split();
    let (there, _back) = tokio::join!(
        tokio::io::copy(&mut questions, &mut questions_to),
        late(answers, answers_to, delay)
    );
    there.map(|_| ())
}

/// Passes on what comes, each part so long after it came; parts do not wait for each other.
async fn late(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
) -> io::Result<()> {
    let (sender, mut parts) = mpsc::unbounded_channel::<(Pin<Box<Sleep>>, Vec<u8>)>();
    let read = async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let length = from.read(&mut buffer).await?;
            let due = Box::pin(tokio::time::sleep(delay));
            if length == 0 || sender.send((due, buffer[..length].to_vec())).is_err() {
                return io::Result::Ok(());
            }
        }
    };
    let write = async {
        while let Some((due, part)) = parts.recv().await {
            due.await;
            to.write_all(&part).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(read, write).map(|_| ())
}
