//! What is said over a circuit: numbered bytes, each message with the time at which it was sent.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// Bytes of a chat message: a line in its envelope.
const CHAT_BYTES: usize = 300;

/// Between two chat messages of one speaker, on average.
const CHAT_PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a message of somebody who has a lot to say.
const FLOOD_BYTES: usize = 16 * 1024;

/// Bytes in front of a message: its length and the microseconds since [`Circuit::start`].
const HEADER: usize = 12;

/// What all speakers are to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Silence,
    Chat,
    Flood,
}

/// One circuit, with both its directions.
pub(crate) struct Circuit {
    pub(crate) bytes: AtomicU64,
    pub(crate) messages: AtomicU64,
    /// How long chat messages took. Unit: microseconds.
    pub(crate) latencies: Mutex<Vec<u64>>,
    start: Instant,
}

impl Circuit {
    pub(crate) fn new(start: Instant) -> Arc<Self> {
        let latencies = Mutex::default();
        Arc::new(Circuit { bytes: AtomicU64::new(0), messages: AtomicU64::new(0), latencies, start })
    }

    /// Speaks and listens at one end, until the stream fails.
    pub(crate) fn attend(
        self: &Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Send + 'static,
        mode: watch::Receiver<Mode>,
    ) {
        let (reader, writer) = stream.split();
        let (hears, speaks) = (Arc::clone(self), Arc::clone(self));
        // An end of the stream shows in what is counted.
        tokio::spawn(async move { drop(hears.hear(reader).await) });
        tokio::spawn(async move { drop(speaks.speak(writer, mode).await) });
    }

    async fn speak(
        &self,
        mut writer: impl AsyncWrite + Unpin,
        mut mode: watch::Receiver<Mode>,
    ) -> Result<()> {
        loop {
            let now = *mode.borrow_and_update();
            let length = match now {
                Mode::Silence => {
                    mode.changed().await?;
                    continue;
                }
                Mode::Chat => CHAT_BYTES,
                Mode::Flood => FLOOD_BYTES,
            };
            if now == Mode::Chat {
                sleep(CHAT_PAUSE.mul_f64(2.0 * fastrand::f64())).await;
            }
            let mut message = vec![0x5a; length];
            let micros = self.start.elapsed().as_micros() as u64;
            message[..4].copy_from_slice(&(length as u32).to_be_bytes());
            message[4..HEADER].copy_from_slice(&micros.to_be_bytes());
            writer.write_all(&message).await?;
            writer.flush().await?;
        }
    }

    async fn hear(&self, mut reader: impl AsyncRead + Unpin) -> Result<()> {
        let mut message = vec![0; FLOOD_BYTES];
        loop {
            reader.read_exact(&mut message[..HEADER]).await?;
            let (mut length, mut micros) = ([0; 4], [0; 8]);
            length.copy_from_slice(&message[..4]);
            micros.copy_from_slice(&message[4..HEADER]);
            let length = u32::from_be_bytes(length) as usize;
            anyhow::ensure!((HEADER..=FLOOD_BYTES).contains(&length), "a message of {length} bytes");
            reader.read_exact(&mut message[HEADER..length]).await?;
            self.bytes.fetch_add(length as u64, Ordering::Relaxed);
            self.messages.fetch_add(1, Ordering::Relaxed);
            if length == CHAT_BYTES {
                let took =
                    (self.start.elapsed().as_micros() as u64).saturating_sub(u64::from_be_bytes(micros));
                self.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took);
            }
        }
    }
}
