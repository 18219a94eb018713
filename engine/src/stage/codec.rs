//! The plan codec: a stage as bytes.
//!
//! DataFusion's own operators and expressions travel in DataFusion's protocol buffers; ours as extensions of it. The whole
//! is compressed with zstd and named by its digest, so that it travels once to each executor. Shared expressions, such as
//! a join's runtime filter and its use in a scan, are shared again after decoding.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{exec_datafusion_err, exec_err, internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::memory::LazyMemoryExec;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties, Partitioning, displayable};
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_proto_converter, physical_plan_to_bytes_with_proto_converter,
};
use datafusion_proto::physical_plan::from_proto::{parse_physical_sort_exprs, parse_protobuf_partitioning};
use datafusion_proto::physical_plan::to_proto::{serialize_partitioning, serialize_physical_sort_exprs};
use datafusion_proto::physical_plan::{
    DeduplicatingProtoConverter, PhysicalExtensionCodec, PhysicalPlanDecodeContext,
    PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf;
use firesteel_base::{StageId, UserError};
use prost::Message;

use crate::ops::{GatherExec, ReadKind, SameValue, ShuffleReadExec};
use crate::session::sinks::StagedWriteExec;
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
    let plan = physical_plan_to_bytes_with_proto_converter(Arc::clone(&stage.plan), &OwnNodes, &CONVERTER)?;
    let message = StageMessage {
        id: stage.id.0,
        plan: plan.to_vec(),
        inputs: stage.inputs.iter().map(|input| input.0).collect(),
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

/// DataFusion's protocol loses which columns of a generated series are read.
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
    Ok(Stage {
        id: StageId(message.id),
        partitions: plan.output_partitioning().partition_count(),
        output: decode_output(output, &plan.schema(), context)?,
        inputs: message.inputs.into_iter().map(StageId).collect(),
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

/// Refuses a stage that does not come out of the codec as it went in.
///
/// # Errors
/// When the decoded stage differs in what EXPLAIN shows of it.
pub fn check_round_trip(stage: &Stage, encoded: &[u8], context: &TaskContext) -> Result<()> {
    let decoded = decode(encoded, context)?;
    let text = |stage: &Stage| {
        let lines = displayable(stage.plan.as_ref()).indent(true).to_string();
        lines.lines().map(without_scan_hints).collect::<Vec<_>>().join("\n")
    };
    if text(stage) != text(&decoded) || stage.output.to_string() != decoded.output.to_string() {
        return internal_err!("the codec changed a plan:\n{stage}\ninto:\n{decoded}");
    }
    Ok(())
}

/// A line of a plan without the hints at the end of a Parquet scan, which only help it to read row groups in a better order:
/// DataFusion's protocol has no place for them.
fn without_scan_hints(line: &str) -> &str {
    let hints = [", sort_order_for_reorder=", ", dynamic_rg_pruning="];
    let start = hints.iter().filter_map(|hint| line.find(hint)).min();
    &line[..start.unwrap_or(line.len())]
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
        OutputKind::Merge => {
            let exprs = parse_physical_sort_exprs(&message.ordering, &decoding, schema, &CONVERTER)?;
            let ordering = LexOrdering::new(exprs);
            Output::Merge {
                ordering: ordering.ok_or_else(|| exec_datafusion_err!("a merge lacks its order"))?,
            }
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

/// Our operators, as extensions of DataFusion's protocol.
#[derive(Debug)]
struct OwnNodes;

#[derive(Clone, PartialEq, Message)]
struct NodeMessage {
    #[prost(oneof = "Node", tags = "1, 2, 3")]
    node: Option<Node>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Node {
    #[prost(message, tag = "1")]
    ShuffleRead(ShuffleReadMessage),
    #[prost(message, tag = "2")]
    Gather(GatherMessage),
    #[prost(message, tag = "3")]
    StagedWrite(StagedWriteMessage),
}

#[derive(Clone, PartialEq, Message)]
struct GatherMessage {}

#[derive(Clone, PartialEq, Message)]
struct StagedWriteMessage {
    #[prost(string, tag = 1)]
    target: String,
    #[prost(string, tag = 2)]
    staging: String,
}

#[derive(Clone, PartialEq, Message)]
struct ShuffleReadMessage {
    #[prost(uint32, tag = 1)]
    stage: u32,
    #[prost(enumeration = "ReadKindMessage", tag = 2)]
    kind: i32,
    #[prost(message, optional, tag = 3)]
    schema: Option<protobuf::Schema>,
    #[prost(message, optional, tag = 4)]
    partitioning: Option<protobuf::Partitioning>,
    #[prost(message, repeated, tag = 5)]
    ordering: Vec<protobuf::PhysicalSortExprNode>,
    #[prost(message, repeated, tag = 6)]
    same: Vec<SameValueMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct SameValueMessage {
    #[prost(message, repeated, tag = 1)]
    exprs: Vec<protobuf::PhysicalExprNode>,
    #[prost(bool, tag = 2)]
    constant: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum ReadKindMessage {
    Unspecified = 0,
    Partition = 1,
    All = 2,
    Lane = 3,
}

impl PhysicalExtensionCodec for OwnNodes {
    fn try_decode(
        &self,
        buf: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        ctx: &TaskContext,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let message =
            NodeMessage::decode(buf).map_err(|fault| exec_datafusion_err!("not a node: {fault}"))?;
        match (message.node, inputs) {
            (Some(Node::Gather(_)), [input]) => Ok(Arc::new(GatherExec::new(Arc::clone(input)))),
            (Some(Node::StagedWrite(write)), [input]) => Ok(Arc::new(StagedWriteExec::new(
                Arc::clone(input),
                write.target.into(),
                write.staging.into(),
            ))),
            (Some(Node::ShuffleRead(read)), []) => decode_read(read, ctx, converter),
            _ => exec_err!("a node of a kind not known here, or with too many inputs"),
        }
    }

    fn try_encode(
        &self,
        node: Arc<dyn ExecutionPlan>,
        buf: &mut Vec<u8>,
        converter: &dyn PhysicalProtoConverterExtension,
    ) -> Result<()> {
        let node = if let Some(read) = node.downcast_ref::<ShuffleReadExec>() {
            Node::ShuffleRead(encode_read(read, converter)?)
        } else if node.is::<GatherExec>() {
            Node::Gather(GatherMessage {})
        } else if let Some(write) = node.downcast_ref::<StagedWriteExec>() {
            Node::StagedWrite(encode_staged_write(write)?)
        } else {
            return exec_err!("{} cannot travel to an executor", node.name());
        };
        NodeMessage { node: Some(node) }
            .encode(buf)
            .map_err(|fault| internal_datafusion_err!("encoding a node: {fault}"))
    }
}

fn encode_staged_write(write: &StagedWriteExec) -> Result<StagedWriteMessage> {
    let text = |path: &Path| match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => exec_err!("the path {path:?} is no text"),
    };
    Ok(StagedWriteMessage { target: text(write.target())?, staging: text(write.staging())? })
}

fn encode_read(
    read: &ShuffleReadExec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<ShuffleReadMessage> {
    let schema: SchemaRef = read.schema();
    let ordering = match read.ordering() {
        Some(ordering) => serialize_physical_sort_exprs(ordering.clone(), &OwnNodes, converter)?,
        None => Vec::new(),
    };
    let same = read.same().iter().map(|same| {
        let exprs = same.exprs.iter().map(|expr| converter.physical_expr_to_proto(expr, &OwnNodes));
        Ok(SameValueMessage { exprs: exprs.collect::<Result<_>>()?, constant: same.constant })
    });
    let mut message = ShuffleReadMessage {
        same: same.collect::<Result<_>>()?,
        stage: read.stage().0,
        schema: Some(schema.as_ref().try_into()?),
        partitioning: Some(serialize_partitioning(read.partitioning(), &OwnNodes, converter)?),
        ordering,
        ..Default::default()
    };
    message.set_kind(match read.kind() {
        ReadKind::Partition => ReadKindMessage::Partition,
        ReadKind::All => ReadKindMessage::All,
        ReadKind::Lane => ReadKindMessage::Lane,
    });
    Ok(message)
}

fn decode_read(
    message: ShuffleReadMessage,
    ctx: &TaskContext,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<Arc<dyn ExecutionPlan>> {
    let decoding = PhysicalPlanDecodeContext::new(ctx, &OwnNodes);
    let kind = match message.kind() {
        ReadKindMessage::Partition => ReadKind::Partition,
        ReadKindMessage::All => ReadKind::All,
        ReadKindMessage::Lane => ReadKind::Lane,
        ReadKindMessage::Unspecified => return exec_err!("a read of a kind not known here"),
    };
    let schema = message.schema.as_ref().ok_or_else(|| exec_datafusion_err!("a read lacks its schema"))?;
    let schema: Schema = schema.try_into()?;
    let partitioning =
        parse_protobuf_partitioning(message.partitioning.as_ref(), &decoding, &schema, converter)?
            .ok_or_else(|| exec_datafusion_err!("a read lacks its partitioning"))?;
    let ordering = parse_physical_sort_exprs(&message.ordering, &decoding, &schema, converter)?;
    let ordering = LexOrdering::new(ordering);
    let same = message.same.iter().map(|same| {
        let exprs = same.exprs.iter().map(|expr| converter.proto_to_physical_expr(expr, &schema, &decoding));
        Ok(SameValue { exprs: exprs.collect::<Result<_>>()?, constant: same.constant })
    });
    let same = same.collect::<Result<_>>()?;
    let stage = StageId(message.stage);
    let read = ShuffleReadExec::try_new(stage, kind, Arc::new(schema), partitioning, ordering, same)?;
    Ok(Arc::new(read))
}
