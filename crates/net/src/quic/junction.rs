//! Where the streams of one QUIC connection meet the pipe to its shard: a task of the QUIC thread.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::{AcceptBi, Connection, RecvStream, SendStream, VarInt};

use super::mux::{Breach, CONTROL, Mux, Stream};
use crate::pipe::FarEnd;

/// Bytes read from one stream at once.
const READ: usize = 16 * 1024;
/// Bytes that wait for one stream, above which nothing more is taken from the shard. A stream whose client doesn't read it
/// holds the others back from here on, as one slow connection would.
const QUEUE_MAX: usize = 64 * 1024;
/// Rounds in a row before other connections have their turn.
const ROUNDS_MAX: u32 = 8;
/// Time in which the last words of a connection may arrive.
const LINGER: Duration = Duration::from_secs(2);

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// The shard has closed it, and all it said is on its way.
    Closed,
    /// The shard has closed it, because the certificate of the client does not count any more.
    Condemned,
    /// The client has broken a rule of streams.
    Breach(Breach),
    /// The connection or its control stream is gone.
    Lost,
}

struct Junction {
    mux: Mux,
    far: FarEnd,
    /// By number; the first is the control stream.
    lines: Vec<Option<Line>>,
    /// The shard has been told that no more comes.
    finished: bool,
    /// The connection or its control stream has broken: what has arrived by then still counts, such as a last DISCONNECT.
    broken: bool,
}

/// One stream.
struct Line {
    send: Option<SendStream>,
    recv: Option<RecvStream>,
    queue: Vec<u8>,
    at: usize,
}

/// Carries bytes until the connection ends.
pub(super) async fn run(connection: Connection, control: (SendStream, RecvStream), far: FarEnd) {
    let mut junction =
        Junction { mux: Mux::new(), far, lines: vec![Some(Line::new(control))], finished: false, broken: false };
    let end = {
        let mut streams = pin!(connection.accept_bi());
        poll_fn(|cx| junction.poll(cx, &connection, streams.as_mut())).await
    };
    match end {
        End::Closed => {
            let control = junction.lines.swap_remove(usize::from(CONTROL)).and_then(|line| line.send);
            drop(junction);
            if let Some(mut control) = control {
                // An error here: the client has gone first.
                let _ = control.finish();
                let _ = tokio::time::timeout(LINGER, control.stopped()).await;
            }
            connection.close(VarInt::from_u32(0), b"");
        }
        End::Condemned => {
            connection.close(VarInt::from_u32(NOT_AUTHORIZED), b"the certificate does not count any more")
        }
        End::Breach(breach) => connection.close(VarInt::from_u32(PROTOCOL_ERROR), breach.text().as_bytes()),
        End::Lost => connection.close(VarInt::from_u32(0), b""),
    }
}

/// Reason codes of MQTT 5.0, as error codes of the QUIC connection.
const PROTOCOL_ERROR: u32 = 0x82;
pub(super) const NOT_AUTHORIZED: u32 = 0x87;

impl Junction {
    fn poll<'a>(
        &mut self,
        cx: &mut Context<'_>,
        connection: &'a Connection,
        mut streams: Pin<&mut AcceptBi<'a>>,
    ) -> Poll<End> {
        self.far.register(cx.waker());
        while !self.broken
            && let Poll::Ready(accepted) = streams.as_mut().poll(cx)
        {
            match accepted {
                Ok(stream) => {
                    streams.set(connection.accept_bi());
                    self.open(stream);
                }
                Err(_) => self.broken = true,
            }
        }
        for _ in 0..ROUNDS_MAX {
            match self.round(cx) {
                Ok(true) => {}
                Ok(false) => return Poll::Pending,
                Err(end) => return Poll::Ready(end),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn open(&mut self, stream: (SendStream, RecvStream)) {
        // As many as the transport allows: it counts a stream until both its directions have ended, and so longer than we do.
        let free = self.lines.iter().position(Option::is_none).unwrap_or(self.lines.len());
        let Ok(number) = Stream::try_from(free) else { return };
        if free == self.lines.len() {
            self.lines.push(None);
        }
        self.lines[free] = Some(Line::new(stream));
        self.mux.open(number);
    }

    /// Moves what can be moved. True if anything was.
    fn round(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        // First of all: what the shard wrote before it closed is seen by whoever sees that.
        let closed = self.far.is_closed();
        if closed && self.far.is_condemned() {
            return Err(End::Condemned);
        }
        let mut moved = self.read(cx);
        moved |= self.pass()?;
        let taken = self.take();
        moved |= taken;
        moved |= self.write(cx);
        self.clear()?;
        let drained = self.lines.iter().flatten().all(|line| line.queue.is_empty());
        if closed && !taken && drained {
            return Err(End::Closed);
        }
        // With room left at the shard, nothing whole is left here.
        if self.broken && !moved && self.far.room() > 0 {
            return Err(End::Lost);
        }
        Ok(moved)
    }

    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let (mut moved, mut buffer) = (false, [0; READ]);
        for (number, line) in self.lines.iter_mut().enumerate() {
            let stream = number as Stream;
            let Some(Line { recv: slot @ Some(_), .. }) = line else { continue };
            let count = self.mux.appetite(stream).min(READ);
            let Some(recv) = slot else { continue };
            if count == 0 {
                continue;
            }
            match recv.poll_read(cx, &mut buffer[..count]) {
                Poll::Pending => continue,
                Poll::Ready(Ok(count)) if count > 0 => self.mux.collect(stream, &buffer[..count]),
                // The end, or a reset.
                Poll::Ready(Ok(_)) => {
                    self.mux.end(stream);
                    *slot = None;
                }
                Poll::Ready(Err(_)) => {
                    self.broken |= stream == CONTROL;
                    self.mux.end(stream);
                    *slot = None;
                }
            }
            moved = true;
        }
        moved
    }

    fn pass(&mut self) -> Result<bool, End> {
        let mut inward = Vec::new();
        let room = if self.finished { 0 } else { self.far.room() };
        let passed = self.mux.pass(room, |bytes| inward.extend_from_slice(bytes));
        // What came before a breach still counts.
        self.far.send(&inward);
        passed.map_err(End::Breach)?;
        if !self.finished && !self.broken && self.mux.is_done(CONTROL) {
            self.finished = true;
            self.far.finish();
        }
        Ok(!inward.is_empty())
    }

    /// Takes what the shard has written, and sorts it.
    fn take(&mut self) -> bool {
        if self.lines.iter().flatten().any(|line| line.queue.len() - line.at >= QUEUE_MAX) {
            return false;
        }
        let bytes = self.far.take();
        let Self { mux, lines, .. } = self;
        mux.sort(&bytes, |stream, piece| {
            // A line that can't be sent on is deaf to the mux, but a packet may have been under way.
            if let Some(Some(line)) = lines.get_mut(usize::from(stream))
                && line.send.is_some()
            {
                line.queue.extend_from_slice(piece);
            }
        });
        !bytes.is_empty()
    }

    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        for (number, line) in self.lines.iter_mut().enumerate() {
            let Some(Line { send: slot @ Some(_), queue, at, .. }) = line else { continue };
            while let Some(send) = slot
                && *at < queue.len()
            {
                match Pin::new(send).poll_write(cx, &queue[*at..]) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(count)) => *at += count,
                    Poll::Ready(Err(_)) => {
                        self.broken |= number == usize::from(CONTROL);
                        self.mux.deafen(number as Stream);
                        *slot = None;
                        *at = queue.len();
                    }
                }
                moved = true;
            }
            if *at == queue.len() {
                (*queue, *at) = (Vec::new(), 0);
            }
        }
        moved
    }

    /// Lets go of data streams that are done.
    fn clear(&mut self) -> Result<(), End> {
        for (number, slot) in self.lines.iter_mut().enumerate().skip(1) {
            let Some(line) = slot else { continue };
            let stream = number as Stream;
            if line.recv.is_none() && line.queue.is_empty() && self.mux.is_done(stream) {
                if let Some(send) = &mut line.send {
                    // An error here: the client has stopped it.
                    let _ = send.finish();
                }
                *slot = None;
                self.mux.close(stream).map_err(End::Breach)?;
            }
        }
        Ok(())
    }
}

impl Line {
    fn new((send, recv): (SendStream, RecvStream)) -> Self {
        Self { send: Some(send), recv: Some(recv), queue: Vec::new(), at: 0 }
    }
}
