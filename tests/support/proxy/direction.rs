use std::mem;

use tokio::{
    io::AsyncWriteExt as _,
    net::tcp::{ReadHalf, WriteHalf},
    time::sleep,
};

use super::{
    Action, Point, Trap,
    inbox::Inbox,
    line::{End, Line},
    reader::{Reader, Reading},
    signal,
};

/// One direction of a connection.
pub struct Direction<'a> {
    line: &'a Line,
    inbox: Inbox<ReadHalf<'a>>,
    to: WriteHalf<'a>,
    reader: Box<dyn Reader>,
    run: Run,
    /// The trap that cuts the connection once what it met on this channel is complete.
    cutting: Option<(u16, Trap)>,
}

/// Messages that were read, and are forwarded in one write.
#[derive(Default)]
struct Run {
    length: usize,
    points: Vec<Point>,
}

impl<'a> Direction<'a> {
    pub fn new(line: &'a Line, from: ReadHalf<'a>, to: WriteHalf<'a>, reader: Box<dyn Reader>) -> Self {
        Self { line, inbox: Inbox::new(from), to, reader, run: Run::default(), cutting: None }
    }

    /// Carries all until one side is done or gone. What the one that is gone had sent is still carried by the other
    /// direction.
    pub async fn carry(mut self) -> Result<(), End> {
        match self.carry_all().await {
            Err(End::Unheard) => Ok(()),
            end => end,
        }
    }

    async fn carry_all(&mut self) -> Result<(), End> {
        while self.more().await? {
            self.read().await?;
            self.forward().await?;
        }
        // The beginning of a message without its end.
        self.run.length = self.inbox.bytes().len();
        self.forward().await?;
        if !self.line.is_swallowed() {
            let _ = self.to.shutdown().await;
        }
        Ok(())
    }

    /// Waits for more that may pass, or for the end.
    async fn more(&mut self) -> Result<bool, End> {
        let road = &self.line.road;
        let more = self.inbox.more(|| road.weather().latency).await;
        // What is held back is not met either, and an end is held back like the rest.
        road.passable().await;
        if self.line.is_swallowed() { Ok(more.unwrap_or(false)) } else { Ok(more?) }
    }

    /// Reads all whole messages, and lets happen what they spring.
    async fn read(&mut self) -> Result<(), End> {
        while !self.line.is_swallowed() {
            let bytes = &self.inbox.bytes()[self.run.length..];
            let Some(length) = self.reader.length(bytes).filter(|length| *length <= bytes.len()) else { break };
            let watcher = self.line.road.watcher();
            let mut reading = self.reader.read(&bytes[..length], watcher.is_some());
            let traps = &self.line.road.traps;
            let [first, second] = [reading.point, reading.also].map(|point| point.and_then(|point| traps.meet(point)));
            let sprung = first.or(second);
            if sprung.is_some() || !reading.acked.is_empty() {
                self.forward().await?;
            }
            if let Some(watcher) = watcher {
                for published in mem::take(&mut reading.confirmed) {
                    watcher.confirmed(published);
                }
                if !reading.acked.is_empty() {
                    watcher.acked(mem::take(&mut reading.acked)).await;
                }
            }
            if let Some((action, trap)) = sprung {
                self.act(action, trap, &reading, length).await?;
            }
            self.run.length += length;
            self.run.points.extend(reading.point.into_iter().chain(reading.also));
            let is_over = |(channel, _): &mut (u16, Trap)| reading.is_complete && *channel == reading.channel;
            if let Some((_, trap)) = self.cutting.take_if(is_over) {
                self.forward().await?;
                return Err(End::Cut(Some(trap)));
            }
        }
        Ok(())
    }

    /// Does what has to be done before a message of this length is forwarded, or instead.
    async fn act(&mut self, action: Action, trap: Trap, reading: &Reading, length: usize) -> Result<(), End> {
        match action {
            Action::Hold(time) => {
                trap.spring();
                sleep(time).await;
            }
            Action::Cut => return Err(End::Cut(Some(trap))),
            Action::Reset => return Err(End::Reset(Some(trap))),
            Action::CutInTheMiddle => {
                self.run.length = length / 2;
                self.forward().await?;
                return Err(End::Cut(Some(trap)));
            }
            Action::CutAfter => self.cutting = Some((reading.channel, trap)),
            Action::Swallow => {
                self.line.swallow();
                trap.spring();
            }
            Action::Kill(pid) => {
                signal::send("KILL", pid);
                return Err(End::Cut(Some(trap)));
            }
            Action::Freeze(pid, time) => {
                signal::freeze(pid, time).await;
                trap.spring();
            }
        }
        Ok(())
    }

    /// Forwards what was read.
    async fn forward(&mut self) -> Result<(), End> {
        let road = &self.line.road;
        road.passable().await;
        if self.line.is_swallowed() {
            self.run.length = self.inbox.bytes().len();
        } else if self.run.length > 0 {
            road.traps.forward(&self.run.points);
            let bytes = &self.inbox.bytes()[..self.run.length];
            for slice in bytes.chunks(road.weather().slice.unwrap_or(usize::MAX)) {
                self.to.write_all(slice).await.map_err(|_| End::Unheard)?;
            }
        }
        self.inbox.take(self.run.length);
        self.run = Run::default();
        Ok(())
    }
}
