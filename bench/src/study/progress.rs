//! How far the study is: a bar where somebody looks, lines otherwise.

use std::cell::Cell as Shared;
use std::io::{IsTerminal, Write, stderr};
use std::time::Instant;

use super::plan::Cell;

const WIDTH: usize = 30;

pub(super) struct Progress {
    cells: usize,
    done: Shared<usize>,
    /// When something was last drawn, and what was last said.
    drawn: Shared<Option<Instant>>,
    is_terminal: bool,
    start: Instant,
}

impl Progress {
    pub(super) fn new(cells: usize) -> Self {
        let is_terminal = stderr().is_terminal();
        Progress { cells, done: Shared::new(0), drawn: Shared::new(None), is_terminal, start: Instant::now() }
    }

    /// A step that is worth a line.
    pub(super) fn say(&self, what: &str) {
        match self.is_terminal {
            true => self.draw(0.0, what),
            false => eprintln!("  {:5.0} s  {what}", self.start.elapsed().as_secs_f64()),
        }
    }

    /// This share of a cell's measurement is over.
    pub(super) fn measured(&self, cell: &Cell, share: f64) {
        let is_fresh = self.drawn.get().is_some_and(|at| at.elapsed().as_millis() < 250);
        if self.is_terminal && !is_fresh {
            self.drawn.set(Some(Instant::now()));
            // Starting and warming up are about half of a cell.
            self.draw(0.5 + share / 2.0, &format!("{cell}: measuring"));
        }
    }

    pub(super) fn cell_done(&self) {
        self.done.set(self.done.get() + 1);
        self.draw(0.0, "");
        if self.is_terminal && self.done.get() == self.cells {
            eprintln!();
        }
    }

    fn draw(&self, share: f64, what: &str) {
        if !self.is_terminal {
            return;
        }
        let share = (self.done.get() as f64 + share) / self.cells as f64;
        let full = (share * WIDTH as f64) as usize;
        let (cells, seconds) = (self.cells, self.start.elapsed().as_secs());
        // Nobody needs to know that a bar cannot be drawn.
        let _ = write!(
            stderr(),
            "\r\x1b[K[{:#<full$}{:-<left$}] {:3.0} %  {}/{cells}  {seconds} s  {what}",
            "",
            "",
            100.0 * share,
            self.done.get(),
            left = WIDTH.saturating_sub(full),
        );
        let _ = stderr().flush();
    }
}
