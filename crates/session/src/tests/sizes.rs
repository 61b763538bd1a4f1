use super::pair::{Pair, will};
use crate::inflight::Entry;
use crate::queue::Pending;
use crate::{Link, Session};
use breakwater_proto::QoS;

#[test]
fn an_idle_session_and_its_link_are_small() {
    assert!(size_of::<Session>() <= 72, "{}", size_of::<Session>());
    assert!(size_of::<Link>() <= 48, "{}", size_of::<Link>());
    assert!(size_of::<Pending>() <= 32, "{}", size_of::<Pending>());
    assert!(size_of::<Entry>() <= 40, "{}", size_of::<Entry>());
}

#[test]
fn a_new_session_owns_its_client_id_and_nothing_else() {
    assert_eq!(Session::new("client", 0).heap_bytes(), "client".len());
}

#[test]
fn what_traffic_allocated_goes_back_on_detach_and_on_trim() {
    let mut pair = Pair::v5();
    for id in 1..=20 {
        pair.deliver("t", b"", QoS::AtLeastOnce);
        pair.puback(id);
        pair.publish_qos(QoS::ExactlyOnce, id).unwrap();
        pair.pubrel(id);
    }
    assert!(pair.session.heap_bytes() > "client".len());
    pair.session.trim();
    assert_eq!(pair.session.heap_bytes(), "client".len());
    pair.deliver("t", b"", QoS::AtLeastOnce);
    pair.puback(21);
    pair.detach();
    assert_eq!(pair.session.heap_bytes(), "client".len());
}

#[test]
fn a_will_is_counted_and_taken_once() {
    let mut pair = Pair::v5();
    pair.session.set_will(Some(will(10)));
    assert!(pair.session.heap_bytes() > "client".len());
    assert_eq!(pair.session.take_will().map(|will| will.delay_s), Some(10));
    assert!(pair.session.take_will().is_none());
}

#[test]
fn a_will_is_due_when_the_session_ends_at_the_latest() {
    let mut session = Session::new("client", 5);
    session.set_will(Some(will(10)));
    assert_eq!(session.will_delay_s(), Some(5));
    session.set_expiry_s(60);
    assert_eq!(session.will_delay_s(), Some(10));
    session.set_will(None);
    assert_eq!(session.will_delay_s(), None);
}
