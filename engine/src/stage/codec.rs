//! The plan codec: a stage as bytes.
//!
//! DataFusion's own operators and expressions travel in DataFusion's protocol buffers; ours as extensions of it. The whole
//! is compressed with zstd and named by its digest, so that it travels once to each executor. Shared expressions, such as
//! a join's runtime filter and its use in a scan, are shared again after decoding.

mod check;
mod nodes;
mod scan;

use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::Schema;
use datafusion::common::{exec_datafusion_err, exec_err, internal_datafusion_err};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_proto_converter, physical_plan_to_bytes_with_proto_converter,
};
use datafusion_proto::physical_plan::from_proto::{parse_physical_sort_exprs, parse_protobuf_partitioning};
use datafusion_proto::physical_plan::to_proto::{serialize_partitioning, serialize_physical_sort_exprs};
use datafusion_proto::physical_plan::{DeduplicatingProtoConverter, PhysicalPlanDecodeContext};
use datafusion_proto::protobuf;
use firesteel_base::{StageId, UserError};
use prost::Message;

pub use check::check_round_trip;

use self::nodes::OwnNodes;
use self::scan::TextScanExec;
use super::adapt::Adapts;
use crate::ops::{check_ranges, is_of_whole_numbers};
use crate::{Output, Stage};

/// The largest plan that is decoded, in bytes before compression.
const PLAN_BYTES_MAX: usize = 1 << 30;
const ZSTD_LEVEL: i32 = 1;

/// The bytes of a stage.
///
/// # Errors
/// When its plan holds something that cannot travel.
pub fn encode(stage: &Stage) -> Result<Bytes> {
    refuse_generated_series(&stage.plan)?;
    let plan = TextScanExec::put_above_scans(Arc::clone(&stage.plan))?;
    let plan = physical_plan_to_bytes_with_proto_converter(plan, &OwnNodes, &CONVERTER)?;
    let message = StageMessage {
        id: stage.id.0,
        plan: plan.to_vec(),
        tells: stage.tells.iter().map(|&column| number(column)).collect::<Result<_>>()?,
        inputs: stage.inputs.iter().map(|input| input.0).collect(),
        told_by: stage.told_by.iter().map(|input| input.0).collect(),
        estimated_bytes: stage.estimated_bytes,
        output: Some(encode_output(&stage.output)?),
    };
    let bytes = message.encode_to_vec();
    let packed = zstd::bulk::compress(&bytes, ZSTD_LEVEL)
        .map_err(|fault| internal_datafusion_err!("compressing a plan: {fault}"))?;
    let mut encoded = (bytes.len() as u64).to_le_bytes().to_vec();
    encoded.extend_from_slice(&packed);
    Ok(encoded.into())
}

/// DataFusion's protocol loses which columns of a generated series are read. Those of whole numbers are ours by now; this
/// leaves times.
fn refuse_generated_series(plan: &Arc<dyn ExecutionPlan>) -> Result<()> {
    if plan.is::<LazyMemoryExec>() {
        return exec_err!("a generated series cannot travel to an executor");
    }
    plan.children().into_iter().try_for_each(refuse_generated_series)
}

/// The name of encoded bytes: xxh3-128, big endian.
#[must_use]
pub fn digest(encoded: &[u8]) -> [u8; 16] {
    xxhash_rust::xxh3::xxh3_128(encoded).to_be_bytes()
}

/// The stage that was encoded, its functions and object stores taken from `context`.
///
/// # Errors
/// When the bytes are not a stage's, or name something unknown here.
pub fn decode_in(encoded: &[u8], context: &TaskContext) -> Result<Stage, UserError> {
    decode(encoded, context)
        .map_err(|fault| UserError::new("a stage's plan cannot be decoded").detail(fault.strip_backtrace()))
}

fn decode(encoded: &[u8], context: &TaskContext) -> Result<Stage> {
    let (size, packed) = split_size(encoded)?;
    let bytes =
        zstd::bulk::decompress(packed, size).map_err(|fault| exec_datafusion_err!("not a plan: {fault}"))?;
    let message = StageMessage::decode(bytes.as_slice())
        .map_err(|fault| exec_datafusion_err!("not a plan: {fault}"))?;
    let plan = physical_plan_from_bytes_with_proto_converter(&message.plan, context, &OwnNodes, &CONVERTER)?;
    let output = message.output.ok_or_else(|| exec_datafusion_err!("the stage lacks its output"))?;
    let output = decode_output(output, &plan.schema(), context)?;
    let tells = decode_tells(message.tells, &plan.schema())?;
    if !tells.is_empty() && matches!(output, Output::SampledRange { .. }) {
        return exec_err!("the stage tells keys and samples");
    }
    Ok(Stage {
        id: StageId(message.id),
        partitions: plan.output_partitioning().partition_count(),
        output,
        tells,
        inputs: message.inputs.into_iter().map(StageId).collect(),
        told_by: message.told_by.into_iter().map(StageId).collect(),
        adapts: Adapts::default(),
        estimated_bytes: message.estimated_bytes,
        encoded: None,
        plan,
    })
}

/// Splits the size before compression, which comes first, from the rest. A size that no plan has is refused before
/// anything of that size is allocated.
fn split_size(encoded: &[u8]) -> Result<(usize, &[u8])> {
    let Some((size, packed)) = encoded.split_first_chunk::<8>() else {
        return exec_err!("not a plan: it is too short");
    };
    match usize::try_from(u64::from_le_bytes(*size)) {
        Ok(size) if size <= PLAN_BYTES_MAX => Ok((size, packed)),
        _ => exec_err!("not a plan: its size is above the limit of {PLAN_BYTES_MAX} bytes"),
    }
}

const CONVERTER: DeduplicatingProtoConverter = DeduplicatingProtoConverter {};

#[derive(Clone, PartialEq, Message)]
struct StageMessage {
    #[prost(uint32, tag = 1)]
    id: u32,
    #[prost(bytes = "vec", tag = 2)]
    plan: Vec<u8>,
    #[prost(uint32, repeated, tag = 3)]
    inputs: Vec<u32>,
    #[prost(uint64, tag = 4)]
    estimated_bytes: u64,
    #[prost(message, optional, tag = 5)]
    output: Option<OutputMessage>,
    #[prost(uint32, repeated, tag = 6)]
    tells: Vec<u32>,
    #[prost(uint32, repeated, tag = 7)]
    told_by: Vec<u32>,
}

fn number(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| internal_datafusion_err!("{number} of them are too many to travel"))
}

/// The columns that a stage with that output tells the values of.
fn decode_tells(columns: Vec<u32>, schema: &Schema) -> Result<Vec<usize>> {
    let columns = columns.into_iter().map(|column| column as usize);
    let checked = columns.map(|column| match schema.fields().get(column) {
        Some(field) if is_of_whole_numbers(field.data_type()) => Ok(column),
        _ => exec_err!("the stage has no keys in column {column}"),
    });
    checked.collect()
}

#[derive(Clone, PartialEq, Message)]
struct OutputMessage {
    #[prost(enumeration = "OutputKind", tag = 1)]
    kind: i32,
    #[prost(message, optional, tag = 2)]
    partitioning: Option<protobuf::Partitioning>,
    #[prost(message, repeated, tag = 3)]
    ordering: Vec<protobuf::PhysicalSortExprNode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum OutputKind {
    Unspecified = 0,
    Partitioned = 1,
    Single = 2,
    Broadcast = 3,
    Merge = 4,
    Result = 5,
    SampledRange = 6,
}

fn encode_output(output: &Output) -> Result<OutputMessage> {
    let partitioned =
        |partitioning: &Partitioning| serialize_partitioning(partitioning, &OwnNodes, &CONVERTER);
    let mut message = OutputMessage::default();
    let kind = match output {
        Output::Hash { exprs, partitions } => {
            message.partitioning = Some(partitioned(&Partitioning::Hash(exprs.clone(), *partitions))?);
            OutputKind::Partitioned
        }
        Output::RoundRobin { partitions } => {
            message.partitioning = Some(partitioned(&Partitioning::RoundRobinBatch(*partitions))?);
            OutputKind::Partitioned
        }
        Output::Range(partitioning) => {
            message.partitioning = Some(partitioned(partitioning)?);
            OutputKind::Partitioned
        }
        Output::Merge { ordering } => {
            message.ordering = serialize_physical_sort_exprs(ordering.clone(), &OwnNodes, &CONVERTER)?;
            OutputKind::Merge
        }
        Output::SampledRange { ordering } => {
            message.ordering = serialize_physical_sort_exprs(ordering.clone(), &OwnNodes, &CONVERTER)?;
            OutputKind::SampledRange
        }
        Output::Single => OutputKind::Single,
        Output::Broadcast => OutputKind::Broadcast,
        Output::Result => OutputKind::Result,
    };
    message.set_kind(kind);
    Ok(message)
}

fn decode_output(message: OutputMessage, schema: &Schema, context: &TaskContext) -> Result<Output> {
    let decoding = PhysicalPlanDecodeContext::new(context, &OwnNodes);
    Ok(match message.kind() {
        OutputKind::Single => Output::Single,
        OutputKind::Broadcast => Output::Broadcast,
        OutputKind::Result => Output::Result,
        kind @ (OutputKind::Merge | OutputKind::SampledRange) => {
            let exprs = parse_physical_sort_exprs(&message.ordering, &decoding, schema, &CONVERTER)?;
            let ordering = LexOrdering::new(exprs);
            let ordering = ordering.ok_or_else(|| exec_datafusion_err!("a merge lacks its order"))?;
            if kind == OutputKind::Merge {
                return Ok(Output::Merge { ordering });
            }
            check_ranges(&ordering, schema)?;
            Output::SampledRange { ordering }
        }
        OutputKind::Partitioned => {
            let partitioning =
                parse_protobuf_partitioning(message.partitioning.as_ref(), &decoding, schema, &CONVERTER)?;
            match partitioning {
                Some(Partitioning::Hash(exprs, partitions)) => Output::Hash { exprs, partitions },
                Some(Partitioning::RoundRobinBatch(partitions)) => Output::RoundRobin { partitions },
                Some(range @ Partitioning::Range(_)) => Output::Range(range),
                Some(Partitioning::UnknownPartitioning(_)) | None => {
                    return exec_err!("an exchange says not how it divides its rows");
                }
            }
        }
        OutputKind::Unspecified => return exec_err!("the stage's output is of a kind not known here"),
    })
}
