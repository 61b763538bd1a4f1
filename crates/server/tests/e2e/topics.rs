//! What the broker does with topics by itself, as its configuration says.

use crate::broker::breakwater;
use crate::ports::{Folder, Ports};
use crate::program::Program;

const CONFIGURATION: &str = "[listeners]\ndefaults = false\n[listeners.tcp.default]\nbind = \"127.0.0.1:0\"\n\
    [mqtt]\nexclusive_subscription = true\n\
    [[auto_subscribe.topics]]\ntopic = \"to/%c/#\"\nqos = 1\n\
    [[retained.expiry_rules]]\nfilter = \"brief/#\"\nexpiry = \"1h\"\n\
    [[rewrite.rules]]\naction = \"publish\"\nsource = \"in/#\"\nexpression = \"^in/(.*)$\"\ndestination = \"to/pump/$1\"\n";

fn publish(ports: &Ports, words: &[&str]) {
    Program::start(breakwater().args(["pub", "-L", &ports.url("tcp"), "-q", "1"]).args(words)).succeed();
}

#[test]
fn rules_for_topics_are_read_and_taken_up_again_by_a_reload() {
    let ports = Ports::configured(Folder::new(), CONFIGURATION);
    let url = ports.url("tcp");
    let mut pump = breakwater();
    // What it asks for itself is another topic.
    pump.args(["sub", "-L", &url, "-i", "pump", "-t", "$exclusive/own", "-F", "%t=%p", "-C", "2", "-d"]);
    let pump = Program::start(&mut pump);
    pump.line(|line| line.contains("SUBACK"));
    publish(&ports, &["-t", "in/a", "-m", "1"]);
    pump.line(|line| line == "to/pump/a=1");
    let second = Program::start(breakwater().args(["sub", "-L", &url, "-t", "$exclusive/own", "-V", "5"])).finish();
    assert!(second.lines[0].ends_with("\"$exclusive/own\": quota exceeded"), "{:?}", second.lines);

    let changed = CONFIGURATION.replace("to/pump/$1", "to/pump/new/$1").replace("1h", "9d");
    ports.folder.write("breakwater.toml", &changed);
    let reload = Program::start(breakwater().args(["reload", "--data"]).arg(ports.folder.path())).finish();
    let told = reload.lines.join("\n");
    assert!(reload.status.success() && told.contains("rewrite.rules: ") && told.contains("at once"), "{told}");
    publish(&ports, &["-t", "in/a", "-m", "2"]);
    pump.line(|line| line == "to/pump/new/a=2");
    publish(&ports, &["-t", "brief/x", "-r", "-m", "x"]);
    let list = Program::start(breakwater().args(["retained", "list", "--data"]).arg(ports.folder.path())).finish();
    assert!(list.lines.iter().any(|line| line.starts_with("brief/x") && line.ends_with(" d")), "{:?}", list.lines);

    ports.folder.write("breakwater.toml", &changed.replace("^in/(.*)$", "^in/(.*$"));
    let refused = Program::start(breakwater().args(["reload", "--data"]).arg(ports.folder.path())).finish();
    let told = refused.lines.join("\n");
    assert!(
        !refused.status.success() && told.contains(":13:11: rewrite.rules: rule 1: expression is no regular"),
        "{told}"
    );
}
