//! The live tree of a terminal.
//!
//! ```text
//! [+] Building 8.2s (3/5)                       docker-container:name
//!  => [internal] load build definition from Dockerfile          0.0s
//!  => => transferring dockerfile: 123B                          0.0s
//!  => CACHED [1/3] FROM docker.io/library/alpine                0.0s
//!  => [2/3] RUN make                                            8.1s
//!  => => # cc -c main.c
//! ```
//!
//! A picture is written over the one before in one piece. While the build runs it never is higher
//! than the terminal; the last picture has every step.

mod frame;
mod layout;
mod row;
mod summary;
pub mod window;

use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;

pub use frame::{Frame, Size};
pub use layout::{Labels, complete, live};

use super::Display;
use super::colors::Colors;
use super::limit::Limiter;
use super::model::Model;
use super::time::Time;
use crate::platform::process;
use frame::Painter;

/// The size of a terminal that does not tell its size.
const DEFAULT_SIZE: Size = Size {
    width: 80,
    height: 24,
};

/// Asked for the size of the terminal before each picture.
pub type SizeSource = Box<dyn Fn() -> Option<Size> + Send>;

/// The terminal display.
pub struct Tty {
    labels: Labels,
    colors: Colors,
    size: SizeSource,
    limiter: Limiter,
    painter: Painter,
}

impl Tty {
    /// Creates a display.
    pub fn new(labels: Labels, colors: Colors, size: SizeSource) -> Self {
        Self {
            labels,
            colors,
            size,
            limiter: Limiter::default(),
            painter: Painter::default(),
        }
    }

    fn size(&self) -> Size {
        (self.size)()
            .filter(|size| size.width > 0 && size.height > 0)
            .unwrap_or(DEFAULT_SIZE)
    }

    fn paint(&mut self, frame: Frame, size: Size, out: &mut Vec<u8>) {
        let text = self.painter.paint(frame, size, &self.colors);
        out.extend_from_slice(text.as_bytes());
    }
}

impl Display for Tty {
    fn status(&mut self, model: &mut Model, _: &StatusResponse, now: Time, out: &mut Vec<u8>) {
        if self.limiter.allow(now) {
            self.tick(model, now, out);
        }
    }

    fn tick(&mut self, model: &mut Model, now: Time, out: &mut Vec<u8>) {
        if model.start().is_none() {
            return;
        }
        let size = self.size();
        self.paint(live(model, size, now, &self.labels), size, out);
    }

    fn end(&mut self, model: &mut Model, now: Time, out: &mut Vec<u8>) {
        if model.start().is_none() {
            return;
        }
        let size = self.size();
        self.paint(complete(model, size, now, &self.labels), size, out);
    }
}

/// Asks the terminal behind standard error for its size; `None` if it is not a terminal.
pub fn error_size() -> Option<Size> {
    let (columns, rows) = process::terminal_size(std::io::stderr())?;
    Some(Size {
        width: columns.into(),
        height: rows.into(),
    })
}

#[cfg(test)]
mod tests;
