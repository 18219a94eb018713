//! The silence of workers: who is not heard gets nothing new at first, and is given up then.

use firesteel_base::Timestamp;

use super::Machine;
use super::message::{Effect, Note};
use super::node::NodeState;

impl Machine {
    /// Judges the silence of every worker.
    pub(super) fn tick_nodes(&mut self, now: Timestamp, fx: &mut Vec<Effect>) {
        self.end_claims(now);
        let mut lost = Vec::new();
        let mut suspects = false;
        for node in self.nodes.iter_mut() {
            let silence = now - node.heard;
            match node.state {
                NodeState::Alive | NodeState::Suspect if silence >= self.config.node_timeout => {
                    lost.push((node.id.clone(), silence));
                }
                NodeState::Alive if silence >= self.config.node_suspect_after => {
                    node.state = NodeState::Suspect;
                    let reason = format!("nothing was heard of it for {:.1}s", silence.as_secs_f64());
                    let worker = node.id.clone();
                    fx.push(Effect::Note(Note::WorkerChanged { worker, state: "suspect", reason }));
                    suspects = true;
                }
                NodeState::Alive | NodeState::Suspect | NodeState::Lost { .. } | NodeState::Left { .. } => {}
            }
        }
        if suspects {
            self.seats_changed();
        }
        for (id, silence) in lost {
            let reason = format!("nothing was heard of it for {:.1}s", silence.as_secs_f64());
            self.retire_node(now, &id, NodeState::Lost { reason }, fx);
        }
    }
}
