//! The client of our own tools, which blocks, against the broker.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use breakwater_client::args::{ConnectArgs, TlsArgs};
use breakwater_client::console::Console;
use breakwater_client::probe::{TestArgs, run_on};
use breakwater_client::quic::{Connected, Reader, connect as dial};
use breakwater_net::Ending;

use crate::authority::Authority;
use crate::ground::{Ground, MQTT, connect, publish, run, suback, subscribe, udp};

const LIMIT: Duration = Duration::from_secs(20);

/// What a console prints.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic in here").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `breakwater test` of a port; its exit code and all that it prints.
async fn probe(address: SocketAddr, authority: &Authority) -> (u8, String) {
    let url = format!("quic://localhost:{}", address.port());
    let tls = TlsArgs { cafile: Some(authority.file()), ..TlsArgs::default() };
    let connect = ConnectArgs { tls, ..ConnectArgs::default() };
    let args = TestArgs { target: Some(url), topic: "test".into(), connect, help: None };
    let all = move || {
        let page = Page::default();
        let mut console = Console {
            input: Box::new(io::empty()),
            output: Box::new(page.clone()),
            diagnostics: Box::new(page.clone()),
            output_is_terminal: false,
            diagnostics_is_terminal: false,
            stop: Arc::default(),
        };
        let exit = run_on(&args, &mut console);
        let text = String::from_utf8(page.0.lock().expect("no panic in here").clone()).expect("text");
        (exit.0, text)
    };
    tokio::task::spawn_blocking(all).await.expect("no panic")
}

#[test]
fn our_own_tools_speak_quic() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let (exit, text) = probe(ground.address, &ground.authority).await;
        assert_eq!(exit, 0, "{text}");
        for part in ["quic://localhost", "TLSv1_3 in QUIC", "chain 0", "publish   and back", "pass"] {
            assert!(text.contains(part), "{text}");
        }
        let (exit, text) = probe(ground.address, &Authority::new()).await;
        assert!(exit != 0 && text.contains("--cafile"), "{text}");
        // One that is closed while somebody is there still answers.
        let _alice = ground.connect("alice").await;
        ground.node.handle().close("quic.test", Ending::Keep).expect("it is open");
        let (exit, text) = probe(ground.address, &ground.authority).await;
        assert!(exit != 0 && text.contains("lets nobody in"), "{text}");
        ground.stop().await;
    });
}

fn hears(reader: &mut Reader, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    reader.read_exact(&mut bytes).expect("the broker answers");
    assert!(bytes == expected);
}

#[test]
fn a_blocking_stream_carries_long_messages_and_ends_in_good_order() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let (address, tls) = (ground.address, ground.authority.client(None, MQTT));
        let all = move || {
            let Connected { mut reader, mut writer, certificates, .. } =
                dial(address, "localhost", tls, LIMIT).expect("it is let in");
            assert_eq!(certificates.len(), 1);
            writer.write_all(&connect("alice", None)).expect("it reads");
            let mut connack = [0; 2];
            reader.read_exact(&mut connack).expect("a CONNACK");
            reader.read_exact(&mut vec![0; usize::from(connack[1])]).expect("the rest of it");
            writer.write_all(&subscribe(1, "t")).expect("it reads");
            hears(&mut reader, &suback(1));
            let long = publish("t", 0, &[7; 900_000]);
            let sending = std::thread::spawn({
                let long = long.clone();
                move || {
                    writer.write_all(&long).expect("it reads");
                    writer
                }
            });
            hears(&mut reader, &long);
            let mut writer = sending.join().expect("no panic");
            writer.write_all(&[0xE0, 0]).expect("it reads");
            writer.end();
            assert_eq!(writer.write(b"x").expect_err("it has ended").kind(), ErrorKind::BrokenPipe);
            assert_eq!(reader.read(&mut [0; 8]).expect("an orderly end"), 0);
        };
        tokio::task::spawn_blocking(all).await.expect("no panic");
        ground.until(|status| status.connections == 0).await;
        ground.stop().await;
    });
}

#[test]
fn where_nobody_listens_nobody_answers() {
    let (socket, authority) = (udp(), Authority::new());
    let address = socket.local_addr().expect("bound");
    let outcome = dial(address, "localhost", authority.client(None, MQTT), Duration::from_millis(100));
    let Err(fault) = outcome else { panic!("connected") };
    assert!(fault.kind() == ErrorKind::TimedOut && fault.to_string().contains("no firewall stops UDP"), "{fault}");
}
