//! Clients: each asks one query after the other and has every answer checked.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use crate::chance::Chance;
use crate::cluster::Cluster;
use crate::command::{Ended, Said, run_or};
use crate::gather;
use crate::promise::{Failed, Way, excuse};
use crate::questions::{QUERIES, Questions};
use crate::record::{End, Record};
use crate::story::About;

/// How long a client rests after an error.
const REST: Duration = Duration::from_millis(300);

/// One that asks.
pub struct Client<'a> {
    /// Which one it is.
    pub number: u32,
    /// Whom it asks.
    pub cluster: &'a Cluster,
    /// What it asks.
    pub questions: &'a Questions,
    /// What it tells.
    pub record: &'a Record,
    /// How long a query may take.
    pub query_max: Duration,
    /// Of a hundred queries, so many are submitted.
    pub submitted: u32,
}

impl Client<'_> {
    /// Asks queries, as the seed has them, until the run ends.
    pub fn ask_on(&self, seed: u64) {
        let mut chance = Chance::new(seed, u64::from(self.number) + 1);
        for serial in 0_u64.. {
            if self.record.has_ended().is_some() {
                return;
            }
            let (query, sql) = QUERIES[usize::try_from(chance.below(22)).expect("a place in a list")];
            let way = if chance.percent(self.submitted.into()) { Way::Submitted } else { Way::Client };
            if !self.ask(serial, query, sql, way, true) {
                self.record.pause(REST);
            }
        }
    }

    /// Asks a query. Returns whether the answer was right; what else it may come to is noted.
    pub fn ask(&self, serial: u64, query: &str, sql: &str, way: Way, may_fail: bool) -> bool {
        let from = self.record.story.now();
        let name = format!("c{}-{serial}-{query}", self.number);
        let ended = self.run(&name, &self.questions.script(sql), way);
        let to = self.record.story.now();
        // All are killed when a run is broken off.
        if matches!(self.record.has_ended(), Some(End::Breach | End::Interrupted)) {
            return false;
        }
        let asked =
            format!("{query} by {way} of client {} took {:.1} s", self.number, (to - from).as_secs_f64());
        let breach = |what: String| {
            self.record.breach(format!("{asked}: {what} ({name})"));
            false
        };
        match ended {
            Ok(Ended::WithCode(0, said)) => self.judge(query, &name, &said, &asked, to - from),
            Ok(Ended::WithCode(code, said)) if said.stderr.contains("error:") => {
                let failed = Failed { way, from, to, code, error: &said.stderr };
                let excuse = excuse(&failed, &self.record.noted().befallen).filter(|_| may_fail);
                let Some(excuse) = excuse else {
                    return breach(format!(
                        "no error may be told, but it ended with {code}: {}",
                        said.stderr.trim()
                    ));
                };
                *self.record.noted().counts.excused.entry(excuse).or_default() += 1;
                let line = said.stderr.lines().find(|line| line.contains("error:")).unwrap_or_default();
                self.record.story.tell(About::Query, format_args!("{asked}: {excuse}: {line}"));
                false
            }
            Ok(Ended::Never) => breach(format!("it did not end within {:?}", self.query_max)),
            Ok(other) => breach(format!("it {other}")),
            Err(error) => breach(format!("it cannot be asked: {error:#}")),
        }
    }

    fn run(&self, name: &str, script: &str, way: Way) -> anyhow::Result<Ended> {
        let common = ["--manager", self.cluster.address(), "--format", "csv", "-q", "--name", name];
        let mut command = match way {
            Way::Client => self.cluster.client(&["sql", "-c", script]),
            Way::Submitted => {
                let file = self.folder()?.join(format!("client-{}.sql", self.number));
                fs::write(&file, script)?;
                let mut command = self.cluster.client(&["submit"]);
                command.arg(file);
                command
            }
        };
        command.args(common);
        run_or(command, self.query_max, |pid| gather::stacks(self.cluster, name, pid))
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        let folder = self.cluster.setup().folder.join("questions");
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn judge(&self, query: &str, name: &str, said: &Said, asked: &str, took: Duration) -> bool {
        let checked = (|| {
            let file = self.folder()?.join(format!("{name}.csv"));
            fs::write(&file, &said.stdout)?;
            let difference = self.questions.difference(query, &file)?;
            if difference.is_none() {
                fs::remove_file(&file)?;
            }
            anyhow::Ok(difference)
        })();
        match checked {
            Ok(None) => {
                let counts = &mut self.record.noted().counts;
                counts.right += 1;
                counts.longest = counts.longest.max(took);
            }
            Ok(Some(difference)) => {
                self.record.breach(format!("{asked}: the answer is wrong: {difference} ({name}.csv)"));
                return false;
            }
            Err(error) => {
                self.record.breach(format!("{asked}: the answer cannot be checked: {error:#}"));
                return false;
            }
        }
        self.record.story.tell(About::Query, format_args!("{asked}: right"));
        true
    }
}
