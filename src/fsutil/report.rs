//! The report to the peer of an error on this side.

use std::error::Error;
use std::time::Duration;

use tokio::sync::mpsc;

use super::wire::Packet;

/// How long to try.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Reports an error to the peer. A peer that does not listen is no error of its own.
pub(super) async fn report<E>(error: &E, outbound: &mpsc::Sender<Packet>)
where
    E: Error + Send + Sync + 'static,
{
    let packet = Packet::error(&crate::error::chain(error));
    drop(tokio::time::timeout(TIMEOUT, outbound.send(packet)).await);
}
