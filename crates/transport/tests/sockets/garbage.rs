//! Random and cut bytes: no panic, no hang, no growth; the connection is closed, and the others go on.

use crate::links::Peers;
use crate::support::{Server, count, framed, in_time, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trimaran_transport::{Limits, PeerLimits};

/// Bytes that are the same in each run.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Writes until the other side has had enough, and reads until its end. Neither may take for ever.
async fn throw(address: std::net::SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let throwing = async {
        let (mut reader, mut writer) = stream.split();
        // Closed upon in the middle is as good as read to the end.
        let _ = writer.write_all(bytes).await;
        let _ = writer.shutdown().await;
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer).await;
    };
    in_time("the end of a connection of noise", throwing).await;
}

#[tokio::test]
async fn noise_closes_its_own_connection() {
    let server = Server::start(Limits {
        max_frame_bytes: 1 << 20,
        ..Limits::default()
    })
    .await;
    let mut neighbour = server.client().await;
    for seed in 0..100 {
        throw(server.address, &noise(seed, 1 + (seed as usize * 37) % 3000)).await;
    }
    neighbour.send("echo").await;
    assert_eq!(neighbour.receive().await, "echo");
    until("only the neighbour is left", || count(&server.statistics.open) == 1).await;
    assert_eq!(count(&server.statistics.closed.failed), 0);
    assert!(count(&server.statistics.closed.oversized) > 80);
}

#[tokio::test]
async fn noise_in_frames_is_the_services_affair() {
    let server = Server::start(Limits::default()).await;
    for seed in 0..50 {
        let mut client = server.client().await;
        let frame = noise(seed, 1 + seed as usize * 11);
        client.send_bytes(&frame).await;
        assert_eq!(client.receive_bytes().await, frame);
    }
}

#[tokio::test]
async fn a_request_cut_at_any_byte_is_never_started() {
    let server = Server::start(Limits::default()).await;
    let whole = framed(b"echo this");
    for end in 0..whole.len() {
        throw(server.address, &whole[..end]).await;
    }
    until("all have left", || count(&server.statistics.open) == 0).await;
    assert_eq!(server.service.started(), 0);
}

#[tokio::test]
async fn noise_on_the_peers_port_admits_nobody() {
    let peers = Peers::start(PeerLimits::default()).await;
    for seed in 0..50 {
        throw(peers.address, &noise(seed, 1 + (seed as usize * 53) % 3000)).await;
    }
    // Framed, so that it gets as far as the hello.
    for seed in 0..20 {
        throw(peers.address, &framed(&noise(seed, 40))).await;
    }
    until("all have left", || count(&peers.statistics.open) == 0).await;
    assert_eq!(count(&peers.statistics.closed.not_admitted), 70);
    assert!(peers.service.frames().is_empty());
}
