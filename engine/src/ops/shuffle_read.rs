//! Reading what another stage wrote.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{
    AcrossPartitions, ConstExpr, EquivalenceProperties, LexOrdering, PhysicalExpr,
};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, Partitioning, PlanProperties,
};
use firesteel_base::StageId;
use firesteel_shuffle::Slice;
use futures::future::ready;
use futures::{StreamExt, TryStreamExt};

use super::arriving::Wanted;
use super::key_hashes::KeyPart;
use super::plan_boilerplate;
use super::ranges::{RangeRead, SharedSplits};
use crate::run::ShuffleInputs;

/// Blocks that one lane fetches at the same time. More hide latency; each holds a connection and a frame.
const FETCHES_MAX: usize = 4;

/// Which blocks one partition of a [`ShuffleReadExec`] reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadKind {
    /// Partition `i` of the exchange, from every lane that wrote.
    Partition,
    /// The first `partitions` partitions of the exchange, all that hold its rows: the read has one partition.
    All {
        /// Partitions of the exchange.
        partitions: usize,
    },
    /// What the producer's `i`-th lane wrote, in its order.
    Lane,
    /// Of what every lane wrote, in this order, the `i`-th of as many ranges of keys as there are partitions, merged.
    Range(LexOrdering),
}

/// Expressions that have the same value in every row; what a planner knew of the rows before they were cut off from the
/// plan that made them, and may have relied on.
#[derive(Debug, Clone)]
pub struct SameValue {
    /// The expressions, over the read's columns.
    pub exprs: Vec<Arc<dyn PhysicalExpr>>,
    /// Whether that value is also the same in all rows.
    pub constant: bool,
}

impl SameValue {
    /// What is known of the rows of `plan`, whichever of its partitions they come from.
    #[must_use]
    pub fn of(plan: &Arc<dyn ExecutionPlan>) -> Vec<Self> {
        let equivalences = plan.equivalence_properties();
        let constants = equivalences.constants();
        let is_constant = |expr: &Arc<dyn PhysicalExpr>| {
            let uniform = |known: &ConstExpr| matches!(known.across_partitions, AcrossPartitions::Uniform(_));
            constants.iter().any(|known| uniform(known) && known.expr.eq(expr))
        };
        let classes = equivalences.eq_group().iter().map(|class| Self {
            exprs: class.iter().cloned().collect(),
            constant: class.iter().any(is_constant),
        });
        classes.filter(|same| same.constant || same.exprs.len() > 1).collect()
    }

    fn declare(&self, equivalences: &mut EquivalenceProperties) -> Result<()> {
        for pair in self.exprs.windows(2) {
            equivalences.add_equal_conditions(Arc::clone(&pair[0]), Arc::clone(&pair[1]))?;
        }
        let constant = self.exprs.first().filter(|_| self.constant);
        let uniform = || AcrossPartitions::Uniform(None);
        equivalences.add_constants(constant.map(|expr| ConstExpr::new(Arc::clone(expr), uniform())))
    }
}

/// What each partition reads, where that is not the exchange's partition of its number.
#[derive(Debug, Clone)]
struct Sliced {
    slices: Arc<[Slice]>,
    /// How the exchange is divided.
    exchange: Partitioning,
}

/// A leaf: the rows that another stage wrote, divided by that stage's output.
#[derive(Debug)]
pub struct ShuffleReadExec {
    stage: StageId,
    kind: ReadKind,
    same: Vec<SameValue>,
    sliced: Option<Sliced>,
    /// Of a read by range: the ranges, once they are known.
    splits: SharedSplits,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ShuffleReadExec {
    /// Reads `stage`, whose rows have `schema` and arrive divided as `partitioning`, each partition ordered as
    /// `ordering` says; `same` is what is known of their values.
    ///
    /// # Errors
    /// When `same` or `ordering` speak of other columns.
    pub fn try_new(
        stage: StageId,
        kind: ReadKind,
        schema: SchemaRef,
        partitioning: Partitioning,
        ordering: Option<LexOrdering>,
        same: Vec<SameValue>,
    ) -> Result<Self> {
        let mut equivalences = EquivalenceProperties::new(schema);
        for same in &same {
            same.declare(&mut equivalences)?;
        }
        if let Some(ordering) = ordering {
            equivalences.add_ordering(ordering);
        }
        let properties =
            PlanProperties::new(equivalences, partitioning, EmissionType::Incremental, Boundedness::Bounded);
        let properties = Arc::new(properties);
        Ok(Self {
            stage,
            kind,
            same,
            sliced: None,
            splits: Arc::default(),
            properties,
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }

    /// What is known of the rows' values.
    #[must_use]
    pub fn same(&self) -> &[SameValue] {
        &self.same
    }

    /// The stage it reads.
    #[must_use]
    pub fn stage(&self) -> StageId {
        self.stage
    }

    /// Which blocks a partition reads.
    #[must_use]
    pub fn kind(&self) -> &ReadKind {
        &self.kind
    }

    /// The same rows, with one partition for each of `slices` of the exchange's. For a read by partition.
    ///
    /// # Errors
    /// When a slice is of some keys of rows that are not divided by key.
    pub fn with_slices(&self, slices: Arc<[Slice]>) -> Result<Self> {
        let exchange = self.properties.output_partitioning().clone();
        for keys in slices.iter().filter_map(Slice::keys) {
            KeyPart::try_new(&exchange, keys)?;
        }
        let partitioning = match &exchange {
            Partitioning::Hash(exprs, _) => Partitioning::Hash(exprs.clone(), slices.len()),
            _ => Partitioning::UnknownPartitioning(slices.len()),
        };
        let properties = self.properties.as_ref().clone().with_partitioning(partitioning);
        Ok(Self {
            stage: self.stage,
            kind: self.kind.clone(),
            same: self.same.clone(),
            sliced: Some(Sliced { slices, exchange }),
            splits: Arc::default(),
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        })
    }
}

impl DisplayAs for ShuffleReadExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partitions = self.properties.output_partitioning().partition_count();
        write!(f, "ShuffleReadExec: stage={}, partitions={partitions}, by=", self.stage)?;
        match &self.kind {
            ReadKind::Partition => f.write_str("partition"),
            ReadKind::All { .. } => f.write_str("all"),
            ReadKind::Lane => f.write_str("lane"),
            ReadKind::Range(ordering) => write!(f, "range({ordering})"),
        }
    }
}

impl ExecutionPlan for ShuffleReadExec {
    plan_boilerplate!(ShuffleReadExec, |read, _children| Ok(Arc::new(Self {
        stage: read.stage,
        kind: read.kind.clone(),
        same: read.same.clone(),
        sliced: read.sliced.clone(),
        splits: Arc::default(),
        properties: Arc::clone(&read.properties),
        metrics: ExecutionPlanMetricsSet::new(),
    })));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let inputs = context
            .session_config()
            .get_extension::<ShuffleInputs>()
            .ok_or_else(|| DataFusionError::Internal("a stage's input was read outside a task".to_owned()))?;
        if let ReadKind::Range(ordering) = &self.kind {
            return Ok(self.range(partition, ordering, inputs, context).stream());
        }
        let arrived = inputs.inputs.follow(self.stage).ok_or_else(|| {
            DataFusionError::Internal(format!(
                "the task was not told where the output of {} lies",
                self.stage
            ))
        })?;
        let wanted = Wanted {
            stage: self.stage,
            kind: self.kind.clone(),
            slice: self.sliced.as_ref().map(|sliced| sliced.slices[partition].clone()),
            partition,
        };
        let schema = self.schema();
        let (fetcher, fetched) = (Arc::clone(&inputs.fetcher), Arc::clone(&inputs.fetched));
        let block_schema = Arc::clone(&schema);
        let fetches = wanted.blocks(arrived).map_ok(move |(holder, key)| {
            let (schema, fetched) = (Arc::clone(&block_schema), Arc::clone(&fetched));
            let batches = fetcher.fetch_counted(holder, key, schema, fetched);
            batches.map_err(|fault| DataFusionError::External(Box::new(fault)))
        });
        let batches = match self.kind {
            // The order of one lane's rows is kept: its only block is read from front to back.
            ReadKind::Lane => fetches.try_flatten().left_stream(),
            ReadKind::Partition | ReadKind::All { .. } | ReadKind::Range(_) => {
                fetches.try_flatten_unordered(Some(FETCHES_MAX)).right_stream()
            }
        };
        let mut keys = self.keys_of(partition)?;
        let batches = batches.and_then(move |batch| {
            ready(match &mut keys {
                Some(keys) => keys.rows_of(&batch),
                None => Ok(batch),
            })
        });
        let metrics = BaselineMetrics::new(&self.metrics, partition);
        let counted = batches.inspect_ok(move |batch| metrics.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, counted)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

impl ShuffleReadExec {
    fn range(
        &self,
        partition: usize,
        ordering: &LexOrdering,
        inputs: Arc<ShuffleInputs>,
        context: Arc<TaskContext>,
    ) -> RangeRead {
        RangeRead {
            stage: self.stage,
            partition,
            partitions: self.partitioning().partition_count(),
            ordering: ordering.clone(),
            schema: self.schema(),
            splits: Arc::clone(&self.splits),
            inputs,
            context,
            metrics: BaselineMetrics::new(&self.metrics, partition),
        }
    }

    /// What picks the keys that one of its partitions reads, where these are not all.
    fn keys_of(&self, partition: usize) -> Result<Option<KeyPart>> {
        let Some(Sliced { slices, exchange }) = &self.sliced else { return Ok(None) };
        slices[partition].keys().map(|keys| KeyPart::try_new(exchange, keys)).transpose()
    }

    /// How its rows are divided.
    #[must_use]
    pub fn partitioning(&self) -> &Partitioning {
        self.properties.output_partitioning()
    }

    /// The order of each partition's rows.
    #[must_use]
    pub fn ordering(&self) -> Option<&LexOrdering> {
        self.properties.output_ordering()
    }
}
