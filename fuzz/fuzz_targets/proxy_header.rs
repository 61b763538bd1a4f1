//! Any bytes as a PROXY header: nothing panics, more bytes never change an answer, and what is read can be written again.
#![no_main]

use breakwater_transport::proxy::{HEADER_MAX, Origin, Proxied, parse, put_v1, put_v2};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    if input.len() >= HEADER_MAX {
        assert_ne!(whole, Ok(None), "a whole header is always enough");
    }
    for cut in 0..input.len().min(HEADER_MAX) {
        let part = parse(&input[..cut]);
        assert!(part == Ok(None) || part == whole, "{part:?} of {cut} bytes, {whole:?} of all");
    }
    let Ok(Some(Proxied { used, origin })) = whole else { return };
    assert!(used <= input.len() && used <= HEADER_MAX);
    if let Origin::Client { source, destination } = origin {
        let mut again = Vec::new();
        put_v2(&mut again, Some((source, destination)), &[(3, &[0; 4])]);
        assert_eq!(parse(&again), Ok(Some(Proxied { used: again.len(), origin })));
        if source.is_ipv4() == destination.is_ipv4() {
            again.clear();
            put_v1(&mut again, source, destination);
            assert_eq!(parse(&again), Ok(Some(Proxied { used: again.len(), origin })));
        }
    }
});
