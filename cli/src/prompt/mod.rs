//! The interactive SQL shell.

mod complete;
mod editor;
mod meta;

use std::collections::BTreeMap;

use firesteel_engine::session::split_statements;
use reedline::{Reedline, Signal};
use tokio::runtime::Runtime;

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::results::Output;
use crate::query::Runner;
use crate::runtime;
use crate::session::{self, Place};
use crate::signals::Stop;
use complete::Names;
use editor::Ps;
use meta::Meta;

/// Runs the shell until its user leaves.
pub fn run(
    context: &Context,
    place: &Place,
    name: &str,
    conf: BTreeMap<String, String>,
    output: Output,
) -> Result<Exit, Failure> {
    let runtime = runtime::build()?;
    let session = runtime.block_on(session::open(place, name, conf))?;
    let stop = runtime.block_on(async { Stop::listen() })?;
    let names = Names::default();
    let editor = editor::make(names.clone());
    let mut shell =
        Shell { runtime, runner: Runner::new(session, context.quiet), output, stop, editor, names };
    if !context.quiet {
        eprintln!("firesteel {}, {place}\n\\? lists commands, \\q leaves", crate::args::release());
    }
    shell.read_and_run()?;
    shell.runtime.block_on(shell.runner.close());
    runtime::end(shell.runtime);
    Ok(Exit::Done)
}

struct Shell {
    runtime: Runtime,
    runner: Runner,
    output: Output,
    stop: Stop,
    editor: Reedline,
    names: Names,
}

impl Shell {
    fn read_and_run(&mut self) -> Result<(), Failure> {
        loop {
            self.runtime.block_on(self.names.refresh(self.runner.session().context()));
            match self.editor.read_line(&Ps).map_err(|fault| no_terminal(&fault))? {
                Signal::Success(text) if self.run_text(text.trim()) => return Ok(()),
                Signal::CtrlD => return Ok(()),
                // Ctrl-C at the prompt drops what was typed.
                _ => {}
            }
        }
    }

    /// Runs what was typed and tells what goes wrong; true when its user leaves.
    fn run_text(&mut self, text: &str) -> bool {
        let outcome = if text.starts_with('\\') { self.run_meta(text) } else { self.run_sql(text) };
        match outcome {
            Ok(leave) => leave,
            Err(failure) => {
                failure.tell();
                false
            }
        }
    }

    fn run_sql(&mut self, text: &str) -> Result<bool, Failure> {
        let statements = split_statements(text)?;
        let run = self.runner.run_all(&statements, &self.output, &mut self.stop);
        self.runtime.block_on(run)?;
        Ok(false)
    }

    fn run_meta(&mut self, text: &str) -> Result<bool, Failure> {
        let engine = self.runner.session().engine();
        match Meta::parse(text)? {
            Meta::Quit => return Ok(true),
            Meta::Help => meta::help()?,
            Meta::Tables => self.runtime.block_on(meta::tables(engine))?,
            Meta::Describe(table) => self.runtime.block_on(meta::describe(engine, &table))?,
            Meta::Timing => {
                self.runner.timing = !self.runner.timing;
                eprintln!("timing is {}", if self.runner.timing { "on" } else { "off" });
            }
        }
        Ok(false)
    }
}

fn no_terminal(fault: &std::io::Error) -> Failure {
    firesteel_base::UserError::new("cannot read from the terminal").detail(fault.to_string()).into()
}
