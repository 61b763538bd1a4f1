//! `pub` and `sub` against the broker and beside the tools that people know. Skipped where those aren't installed.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use breakwater_client::console::Console;
use breakwater_client::publish::{self, PubArgs};
use breakwater_client::subscribe::{self, SubArgs};
use clap::Parser;

/// A running broker; stopped when dropped.
struct Broker {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Broker {
    fn start(settings: &str) -> Option<Broker> {
        Broker::start_with(settings, &[])
    }

    /// With password and ACL files. `None`: there is no broker on this machine.
    fn start_with(settings: &str, files: &[(&str, &str)]) -> Option<Broker> {
        let Some(program) = find("mosquitto") else {
            eprintln!("skipped: mosquitto is not installed (apt-get install mosquitto mosquitto-clients)");
            return None;
        };
        for _ in 0..20 {
            let port = free_port();
            let folder = std::env::temp_dir().join(format!("breakwater-client-{}-{port}", std::process::id()));
            std::fs::create_dir_all(&folder).expect("the temporary folder takes files");
            for (name, contents) in files {
                std::fs::write(folder.join(name), contents).expect("the temporary folder takes files");
            }
            let settings = settings.replace("DIR", &folder.to_string_lossy());
            let conf = folder.join("mosquitto.conf");
            // Root would be changed to a user that can't read the folder.
            let text = format!("user root\nlistener {port} 127.0.0.1\nlog_type none\n{settings}\n");
            std::fs::write(&conf, text).expect("the temporary folder takes files");
            let mut command = Command::new(&program);
            command.arg("-c").arg(&conf).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().expect("mosquitto starts");
            if wait_for(port, &mut child) {
                return Some(Broker { child, port, folder });
            }
            // Somebody else took the port meanwhile.
            let _ = child.kill();
            let _ = child.wait();
            let _ = std::fs::remove_dir_all(&folder);
        }
        panic!("mosquitto finds no free port");
    }

    fn publish(&self, line: &[&str]) -> Run {
        run_pub(&self.address(line), b"")
    }

    fn subscribe(&self, line: &[&str]) -> Run {
        run_sub(&self.address(line))
    }

    /// A subscriber in the background, once the broker has answered its subscription.
    fn listen(&self, line: &[&str]) -> Listener {
        let mut line: Vec<String> = self.address(line).into_iter().map(str::to_owned).collect();
        line.push("-d".into());
        let output = Shared::default();
        let diagnostics = Shared::default();
        let stop = Arc::new(AtomicBool::new(false));
        let (streams, flag) = ((output.clone(), diagnostics.clone()), stop.clone());
        let thread = thread::spawn(move || {
            let mut console = console(b"", streams.0, streams.1, flag);
            subscribe::run_on(&SubArgs::parse_from(words("sub", &line)), &mut console).0
        });
        let listener = Listener { thread, output, diagnostics, stop };
        listener.until("< SUBACK");
        listener
    }

    fn address<'a>(&'a self, line: &[&'a str]) -> Vec<&'a str> {
        // Leaked on purpose: a handful of numbers in a test process.
        let port: &'static str = Box::leak(self.port.to_string().into_boxed_str());
        let mut words = vec!["-h", "127.0.0.1", "-p", port];
        words.extend_from_slice(line);
        words
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

struct Listener {
    thread: JoinHandle<u8>,
    output: Shared,
    diagnostics: Shared,
    stop: Arc<AtomicBool>,
}

impl Listener {
    fn until(&self, text: &str) {
        until(|| self.diagnostics.text().contains(text) || self.thread.is_finished(), text);
    }

    fn finish(self) -> Run {
        let code = self.thread.join().expect("the tool doesn't panic");
        Run { code, output: self.output.text(), diagnostics: self.diagnostics.text() }
    }

    fn stop(self) -> Run {
        self.stop.store(true, Ordering::Relaxed);
        self.finish()
    }
}

#[derive(Debug)]
struct Run {
    code: u8,
    output: String,
    diagnostics: String,
}

/// A stream that the test can read while a tool writes it.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Shared {
    fn bytes(&self) -> Vec<u8> {
        self.0.lock().expect("no writer panics").clone()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes()).into_owned()
    }
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no writer panics").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn console(input: &[u8], output: Shared, diagnostics: Shared, stop: Arc<AtomicBool>) -> Console {
    Console {
        input: Box::new(io::Cursor::new(input.to_vec())),
        output: Box::new(output),
        diagnostics: Box::new(diagnostics),
        output_is_terminal: false,
        diagnostics_is_terminal: false,
        stop,
    }
}

fn words(tool: &str, line: &[impl AsRef<str>]) -> Vec<String> {
    std::iter::once(tool).chain(line.iter().map(AsRef::as_ref)).map(str::to_owned).collect()
}

fn run_pub(line: &[&str], input: &[u8]) -> Run {
    let (output, diagnostics) = (Shared::default(), Shared::default());
    let mut console = console(input, output.clone(), diagnostics.clone(), Arc::default());
    let code = match PubArgs::try_parse_from(words("pub", line)) {
        Ok(args) => publish::run_on(&args, &mut console).0,
        Err(error) => console.command_line(&error).0,
    };
    Run { code, output: output.text(), diagnostics: diagnostics.text() }
}

fn run_sub(line: &[&str]) -> Run {
    let (output, diagnostics) = (Shared::default(), Shared::default());
    let mut console = console(b"", output.clone(), diagnostics.clone(), Arc::default());
    let code = match SubArgs::try_parse_from(words("sub", line)) {
        Ok(args) => subscribe::run_on(&args, &mut console).0,
        Err(error) => console.command_line(&error).0,
    };
    Run { code, output: output.text(), diagnostics: diagnostics.text() }
}

/// Runs a tool that people know, with nothing on its input.
fn known(tool: &str, line: &[&str]) -> Option<Run> {
    let program = find(tool)?;
    let run = Command::new(program).args(line).stdin(Stdio::null()).output().expect("the tool starts");
    Some(Run {
        code: run.status.code().and_then(|code| u8::try_from(code).ok()).expect("the tool ends by itself"),
        output: String::from_utf8_lossy(&run.stdout).into_owned(),
        diagnostics: String::from_utf8_lossy(&run.stderr).into_owned(),
    })
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(program)).find(|file| Path::is_file(file))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    listener.local_addr().expect("it is bound").port()
}

fn wait_for(port: u16, child: &mut Child) -> bool {
    let mut is_up = false;
    until(
        || {
            is_up = TcpStream::connect(("127.0.0.1", port)).is_ok();
            is_up || child.try_wait().is_ok_and(|status| status.is_some())
        },
        "the broker",
    );
    // If it has ended, somebody else answered on its port.
    is_up && child.try_wait().is_ok_and(|status| status.is_none())
}

/// Waits for a fact, not for a time; the limit only ends a test that hangs.
fn until(mut is_so: impl FnMut() -> bool, what: &str) {
    let limit = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < limit, "waited in vain for {what}");
        thread::yield_now();
    }
}

const OPEN: &str = "allow_anonymous true";
const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

#[test]
fn messages_of_each_qos_and_version_arrive_once() {
    let Some(broker) = Broker::start(OPEN) else { return };
    for version in VERSIONS {
        for qos in ["0", "1", "2"] {
            let listener = broker.listen(&["-t", "a/+", "-q", qos, "-V", version, "-C", "2", "-F", "%t %q %p"]);
            let run = broker.publish(&["-t", "a/b", "-q", qos, "-V", version, "-m", "x", "--repeat", "2"]);
            assert_eq!((run.code, run.diagnostics.as_str()), (0, ""));
            let run = listener.finish();
            assert_eq!((run.code, run.output), (0, format!("a/b {qos} x\na/b {qos} x\n")), "{version}");
        }
    }
}

#[test]
fn the_known_tools_and_ours_understand_each_other() {
    let Some(broker) = Broker::start(OPEN) else { return };
    let listener = broker.listen(&["-t", "k", "-q", "2", "-C", "1", "-v"]);
    let Some(run) = known("mosquitto_pub", &broker.address(&["-t", "k", "-q", "2", "-m", "from them"])) else { return };
    assert_eq!(run.code, 0);
    assert_eq!(listener.finish().output, "k from them\n");
    assert_eq!(broker.publish(&["-t", "r", "-r", "-q", "1", "-m", "from us"]).code, 0);
    let run = known("mosquitto_sub", &broker.address(&["-t", "r", "-C", "1", "-v"])).expect("found before");
    assert_eq!(run.output, "r from us\n");
}

#[test]
fn properties_reach_the_subscriber() {
    let Some(broker) = Broker::start(OPEN) else { return };
    let listener = broker.listen(&[
        "-t",
        "p",
        "-V",
        "5",
        "-C",
        "1",
        "-F",
        "%C|%R|%D|%F|%P|%S",
        "-D",
        "subscribe",
        "subscription-identifier",
        "7",
    ]);
    let run = broker.publish(&[
        "-t",
        "p",
        "-m",
        "x",
        "-D",
        "publish",
        "content-type",
        "text/plain",
        "-D",
        "publish",
        "response-topic",
        "back",
        "-D",
        "publish",
        "correlation-data",
        "42",
        "-D",
        "publish",
        "payload-format-indicator",
        "1",
        "-D",
        "publish",
        "user-property",
        "k",
        "v",
        "-D",
        "connect",
        "user-property",
        "who",
        "me",
    ]);
    assert_eq!((run.code, run.diagnostics.as_str()), (0, ""));
    assert_eq!(listener.finish().output, "text/plain|back|42|1|k:v|7\n");
}

/// The same line and message through both tools, byte for byte.
#[test]
fn output_is_that_of_the_known_tool() {
    let Some(broker) = Broker::start(OPEN) else { return };
    assert_eq!(
        broker.publish(&["-t", "o/1", "-r", "-q", "1", "-m", "hé\"llo", "-D", "publish", "content-type", "c"]).code,
        0
    );
    let lines: &[&[&str]] = &[
        &["-v"],
        &["-N"],
        &["-F", "%t|%10t|%-10.2t|%p|%12p|%l|%05l|%x|%X|%q|%r|%m|%4m|%%|@@|\\t"],
        &["-F", "%C|%8C|%R|%E|%05E|%A|%03A|%S|%P|%F", "-V", "5"],
        &["-F", "x", "-v"],
    ];
    for line in lines {
        let line = [&["-t", "o/#", "-C", "1", "-q", "1"], *line].concat();
        let Some(theirs) = known("mosquitto_sub", &broker.address(&line)) else { return };
        let ours = broker.subscribe(&line);
        assert_eq!((ours.code, ours.output), (theirs.code, theirs.output), "{line:?}");
    }
}

/// Exit codes are what scripts test for.
#[test]
fn exit_codes_are_those_of_the_known_tools() {
    let secret = Broker::start_with(
        "allow_anonymous false\npassword_file DIR/passwords\nmax_packet_size 2000",
        &[("passwords", "")],
    );
    let (Some(open), Some(closed)) = (Broker::start(OPEN), secret) else { return };
    let port = open.port.to_string();
    let nobody = free_port().to_string();
    let sub: &[&[&str]] = &[
        &["-p", &port, "-t", "x", "-E"],
        &["-p", &port, "-t", "x", "-W", "1"],
        &["-p", &port],
        &["-p", &nobody, "-t", "x"],
        &["-p", &port, "-t", "a/#/b"],
        &["-p", &port, "-t", "x", "-T", "a#"],
        &["-p", &port, "-t", "x", "-q", "3"],
        &["-p", &port, "-t", "x", "-V", "6"],
        &["-p", &port, "-t", "x", "-p", "70000"],
        &["-p", &port, "-t", "x", "-C", "0"],
        &["-p", &port, "-t", "x", "--nosuch"],
        &["-p", &port, "-t", "x", "-c", "-E"],
        &["-p", &port, "-t", "x", "-c", "-i", "kept", "-E"],
        &["-p", &port, "-t", "x", "-F", "%"],
        &["-p", &port, "-t", "x", "-D", "connect", "nosuch", "1"],
        &["-p", &port, "-t", "x", "-i", "a", "-I", "b"],
        &["-p", &port, "-t", "x", "--will-payload", "b"],
        &["-p", &port, "-L", "http://127.0.0.1/x"],
    ];
    for line in sub {
        let Some(theirs) = known("mosquitto_sub", line) else { return };
        let ours = run_sub(line);
        assert_eq!(ours.code, theirs.code, "sub {line:?}: {}", ours.diagnostics);
        assert!(ours.diagnostics.lines().count() <= 1, "one line: {}", ours.diagnostics);
    }
    let publish: &[&[&str]] = &[
        &["-p", &port, "-t", "x", "-m", "x", "-q", "2"],
        &["-p", &port, "-t", "x", "-n"],
        &["-p", &port, "-t", "x", "-l"],
        &["-p", &port, "-t", "x", "-s"],
        &["-p", &port, "-t", "x"],
        &["-p", &port, "-m", "x"],
        &["-p", &port, "-t", "x/#", "-m", "x"],
        &["-p", &port, "-t", "x", "-m", "x", "-n"],
        &["-p", &port, "-t", "x", "-f", "/no/such/file"],
        &["-p", &nobody, "-t", "x", "-m", "x"],
    ];
    for line in publish {
        let Some(theirs) = known("mosquitto_pub", line) else { return };
        let ours = run_pub(line, b"");
        assert_eq!(ours.code, theirs.code, "pub {line:?}: {}", ours.diagnostics);
        assert!(ours.diagnostics.lines().count() <= 1, "one line: {}", ours.diagnostics);
    }
    for (version, code) in [("mqttv31", 5), ("mqttv311", 5), ("mqttv5", 135)] {
        let line = closed.address(&["-t", "x", "-V", version]);
        assert_eq!(known("mosquitto_sub", &line).map(|run| run.code), Some(code));
        assert_eq!(run_sub(&line).code, code);
        let line = closed.address(&["-t", "x", "-V", version, "-m", "x"]);
        assert_eq!(known("mosquitto_pub", &line).map(|run| run.code), Some(code));
        assert_eq!(run_pub(&line, b"").code, code);
    }
}

#[test]
fn a_message_above_the_servers_limit_is_an_error() {
    let Some(broker) = Broker::start("allow_anonymous true\nmax_packet_size 2000") else { return };
    let large = "x".repeat(3000);
    let run = broker.publish(&["-t", "x", "-m", &large, "-V", "5"]);
    assert_eq!(run.code, 25);
    assert!(run.diagnostics.contains("2000 bytes"), "{}", run.diagnostics);
    // 3.1.1 has no word for it; the server just closes.
    assert_eq!(broker.publish(&["-t", "x", "-m", &large, "-q", "1"]).code, 7);
}

#[test]
fn each_line_is_a_message() {
    let Some(broker) = Broker::start(OPEN) else { return };
    let listener = broker.listen(&["-t", "l", "-q", "1", "-C", "4", "-F", "[%p]"]);
    let run = run_pub(&broker.address(&["-t", "l", "-q", "1", "-l"]), b"a\nb\r\n\nlast");
    assert_eq!((run.code, run.diagnostics.as_str()), (0, ""));
    assert_eq!(listener.finish().output, "[a]\n[b\r]\n[]\n[last]\n");
}

#[test]
fn many_lines_of_each_qos_arrive_in_order() {
    let Some(broker) = Broker::start("allow_anonymous true\nmax_queued_messages 0") else { return };
    let input: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    for qos in ["0", "1", "2"] {
        let listener = broker.listen(&["-t", "l", "-q", qos, "-C", "20000"]);
        let run = run_pub(&broker.address(&["-t", "l", "-q", qos, "-l"]), input.as_bytes());
        assert_eq!((run.code, run.diagnostics.as_str()), (0, ""));
        assert!(listener.finish().output == input, "QoS {qos}");
    }
}

#[test]
fn large_payloads_pass_unchanged() {
    let Some(broker) = Broker::start(OPEN) else { return };
    let payload: Vec<u8> = (0..20_000_000_u32).map(|number| (number ^ (number >> 8)) as u8).collect();
    let listener = broker.listen(&["-t", "big", "-q", "1", "-C", "1", "-N"]);
    let output = listener.output.clone();
    let run = run_pub(&broker.address(&["-t", "big", "-q", "1", "-s"]), &payload);
    assert_eq!((run.code, run.diagnostics.as_str()), (0, ""));
    assert_eq!(listener.finish().code, 0);
    assert!(output.bytes() == payload);
}

#[test]
fn retained_messages_are_filtered_and_cleared() {
    let Some(broker) = Broker::start(OPEN) else { return };
    for topic in ["r/1", "r/2", "r/keep"] {
        assert_eq!(broker.publish(&["-t", topic, "-m", topic, "-r", "-q", "1"]).code, 0);
    }
    // -R: what is retained doesn't count.
    let listener = broker.listen(&["-t", "r/#", "-R", "-C", "1"]);
    assert_eq!(broker.publish(&["-t", "r/live", "-m", "live"]).code, 0);
    assert_eq!(listener.finish().output, "live\n");
    // --remove-retained leaves out what -T leaves out; --retained-only ends with the first live message.
    let listener = broker.listen(&["-t", "r/#", "-T", "r/keep", "--remove-retained", "--retained-only", "-q", "1"]);
    assert_eq!(broker.publish(&["-t", "r/live", "-m", "live"]).code, 0);
    let run = listener.finish();
    let mut lines: Vec<&str> = run.output.lines().collect();
    lines.sort_unstable();
    assert_eq!((run.code, lines), (0, vec!["r/1", "r/2"]));
    assert_eq!(broker.subscribe(&["-t", "r/#", "-C", "1", "-v"]).output, "r/keep r/keep\n");
}

#[test]
fn a_kept_session_has_what_came_meanwhile() {
    let Some(broker) = Broker::start(OPEN) else { return };
    for version in VERSIONS {
        let line = ["-t", "s", "-q", "1", "-c", "-i", "keeper", "-V", version];
        assert_eq!(broker.subscribe(&[&line[..], &["-E"]].concat()).code, 0);
        assert_eq!(broker.publish(&["-t", "s", "-q", "1", "-m", version]).code, 0);
        let run = broker.subscribe(&[&line[..], &["-C", "1"]].concat());
        assert_eq!((run.code, run.output), (0, format!("{version}\n")));
    }
}

#[test]
fn unsubscribing_ends_a_kept_subscription() {
    let Some(broker) = Broker::start(OPEN) else { return };
    let line = ["-q", "1", "-c", "-i", "keeper", "-t", "kept"];
    assert_eq!(broker.subscribe(&[&line[..], &["-t", "gone", "-E"]].concat()).code, 0);
    assert_eq!(broker.subscribe(&[&line[..], &["-U", "gone", "-E"]].concat()).code, 0);
    for topic in ["gone", "kept"] {
        assert_eq!(broker.publish(&["-t", topic, "-q", "1", "-m", topic]).code, 0);
    }
    assert_eq!(broker.subscribe(&[&line[..], &["-C", "1"]].concat()).output, "kept\n");
}

#[test]
fn a_stopped_subscriber_says_goodbye_so_its_will_stays() {
    let Some(broker) = Broker::start(OPEN) else { return };
    let watcher = broker.listen(&["-t", "will/#", "-C", "1", "-v"]);
    let will = ["-t", "x", "--will-topic", "will/a", "--will-payload", "gone", "--will-qos", "1"];
    let run = broker.listen(&will).stop();
    assert_eq!(run.code, 0);
    assert!(run.diagnostics.ends_with("> DISCONNECT, 2 bytes\n"), "{}", run.diagnostics);
    // Had the will come, it would be first.
    assert_eq!(broker.publish(&["-t", "will/b", "-m", "live"]).code, 0);
    assert_eq!(watcher.finish().output, "will/b live\n");
}

#[test]
fn a_url_names_everything() {
    let Some(broker) = Broker::start(OPEN) else { return };
    let url = format!("mqtt://user:word@127.0.0.1:{}/u/1", broker.port);
    assert_eq!(run_pub(&["-L", &url, "-m", "x", "-r"], b"").code, 0);
    assert_eq!(run_sub(&["-L", &url, "-C", "1", "-v"]).output, "u/1 x\n");
}

#[test]
fn the_subscriber_comes_back_after_the_server_does() {
    let Some(mut broker) = Broker::start(OPEN) else { return };
    let listener = broker.listen(&["-t", "b", "-C", "1"]);
    let _ = broker.child.kill();
    let _ = broker.child.wait();
    listener.until("trying again");
    let conf = broker.folder.join("mosquitto.conf");
    let program = find("mosquitto").expect("found before");
    broker.child = Command::new(program).arg("-c").arg(conf).spawn().expect("mosquitto starts");
    until(|| listener.diagnostics.text().matches("< SUBACK").count() == 2, "the second SUBACK");
    assert_eq!(broker.publish(&["-t", "b", "-m", "again"]).code, 0);
    assert_eq!(listener.finish().output, "again\n");
}

/// A server made of a script: what it says, byte by byte, after the first packet came.
#[test]
fn strange_servers_end_in_one_clear_line() {
    for (answer, code, text) in [
        (&b""[..], 7, "closed the connection without an answer"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", 7, "is this an MQTT port?"),
        (
            b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u5 and so on and so on and so on and so on and on",
            2,
            "doesn't keep to MQTT",
        ),
        (b"\x20\x02\0\x02", 2, "give another client id with -i"),
        (b"\x20\x02\0\x03", 3, "try again later"),
        (b"\x20\x02\0\0\x90\x03\0\x01\x80", 0, "denied the subscription"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it is bound").port().to_string();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client comes");
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(answer);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        });
        let run = run_sub(&["-h", "127.0.0.1", "-p", &port, "-t", "x"]);
        assert_eq!(run.code, code, "{}", run.diagnostics);
        assert!(run.diagnostics.contains(text) && run.diagnostics.lines().count() == 1, "{}", run.diagnostics);
        assert_eq!(run.output, "");
        server.join().expect("the script ends");
    }
}

/// Certificates for the broker, by `openssl`: an authority, and one for `localhost` that it has signed.
fn certificates() -> Vec<(&'static str, String)> {
    let folder = std::env::temp_dir().join(format!("breakwater-client-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder takes files");
    let script = "set -e\n\
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=Test -keyout ca.key -out ca.pem\n\
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr\n\
        printf 'subjectAltName=DNS:localhost' > ext\n\
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 9 -extfile ext -out server.pem\n";
    let output = Command::new("sh").args(["-c", script]).current_dir(&folder).output().expect("there is a shell");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name| std::fs::read_to_string(folder.join(name)).expect("just made");
    let files = ["ca.pem", "server.pem", "server.key"].map(|name| (name, read(name)));
    std::fs::remove_dir_all(&folder).expect("ours");
    files.into()
}

#[test]
fn tls_is_spoken_as_the_known_broker_speaks_it() {
    let files = certificates();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let settings = "allow_anonymous true\ncertfile DIR/server.pem\nkeyfile DIR/server.key\n";
    let Some(broker) = Broker::start_with(settings, &files) else { return };
    let ca = broker.folder.join("ca.pem").display().to_string();
    let url = format!("mqtts://localhost:{}", broker.port);
    let large = "x".repeat(200_000);
    for version in ["tlsv1.2", "tlsv1.3"] {
        let to = ["-L", &url, "--cafile", &ca, "--tls-version", version];
        let run = run_pub(&[&to[..], &["-t", "over/it", "-q", "1", "-r", "-m", &large]].concat(), b"");
        assert_eq!(run.code, 0, "{}", run.diagnostics);
        let run = run_sub(&[&to[..], &["-t", "over/#", "-C", "1"]].concat());
        assert_eq!((run.code, run.output.trim_end().len()), (0, large.len()), "{}", run.diagnostics);
    }
    let wrong = url.replace("localhost", "127.0.0.1");
    let run = run_pub(&["-L", &wrong, "--cafile", &ca, "-t", "a", "-m", "b"], b"");
    assert!(run.code == 1 && run.diagnostics.contains("other names"), "{}", run.diagnostics);
    let run = run_pub(&["-L", &url, "--tls-use-os-certs", "-t", "a", "-m", "b"], b"");
    assert!(run.code == 1 && run.diagnostics.contains("--cafile"), "{}", run.diagnostics);
    let plain = format!("mqtt://localhost:{}", broker.port);
    let run = run_pub(&["-L", &plain, "--ws", "-t", "a", "-m", "b"], b"");
    assert!(run.code == 1 && run.diagnostics.contains("WebSocket"), "{}", run.diagnostics);
}
