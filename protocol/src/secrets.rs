//! How messages with secrets in them are told by `Debug`: without these.

use std::fmt;

use crate::v1::{FetchResultRequest, JobInfo, LaunchDriver};

impl fmt::Debug for LaunchDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = f.debug_struct("LaunchDriver");
        told.field("job", &self.job).field("name", &self.name).field("launch", &self.launch);
        told.finish_non_exhaustive()
    }
}

impl fmt::Debug for FetchResultRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchResultRequest").field("job", &self.job).finish_non_exhaustive()
    }
}

impl fmt::Debug for JobInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = f.debug_struct("JobInfo");
        told.field("job", &self.job).field("name", &self.name).field("state", &self.state());
        told.field("waiting_for", &self.waiting_for).field("failure", &self.failure);
        told.finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_tells_its_secrets() {
        let (secret, result_ticket) = ("fsd_1".to_owned(), "ticket".to_owned());
        let launch = LaunchDriver { secret, result_ticket: result_ticket.clone(), ..LaunchDriver::default() };
        let fetch = FetchResultRequest { ticket: result_ticket.clone(), ..FetchResultRequest::default() };
        let info = JobInfo { result_ticket, ..JobInfo::default() };
        let told = format!("{launch:?} {fetch:?} {info:?}");
        assert!(!told.contains("fsd_1") && !told.contains("\"ticket\""), "{told}");
    }
}
