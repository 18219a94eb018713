//! Operators that DataFusion's protocol does not know, as extensions of it.

use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::{exec_datafusion_err, exec_err, internal_datafusion_err, internal_err};
use datafusion::error::Result;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::AggregateUDF;
use datafusion::physical_expr::LexOrdering;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::physical_plan::from_proto::{parse_physical_sort_exprs, parse_protobuf_partitioning};
use datafusion_proto::physical_plan::to_proto::{serialize_partitioning, serialize_physical_sort_exprs};
use datafusion_proto::physical_plan::{
    PhysicalExtensionCodec, PhysicalPlanDecodeContext, PhysicalProtoConverterExtension,
};
use datafusion_proto::protobuf;
use firesteel_base::StageId;
use prost::Message;

use super::number;
use super::scan::TextScanExec;
use crate::ops::{
    GatherExec, ReadKind, RuntimeFilterExec, SameValue, Series, SeriesExec, ShuffleReadExec, Teller,
    ToldFilter, check_ranges,
};
use crate::session::rules::single_value_udaf;
use crate::session::sinks::StagedWriteExec;

/// Our operators, as extensions of DataFusion's protocol.
#[derive(Debug)]
pub(super) struct OwnNodes;

#[derive(Clone, PartialEq, Message)]
struct NodeMessage {
    #[prost(oneof = "Node", tags = "1, 2, 3, 4, 5, 6")]
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
    #[prost(message, tag = "4")]
    Series(SeriesMessage),
    #[prost(message, tag = "5")]
    TextScan(TextScanMessage),
    #[prost(message, tag = "6")]
    RuntimeFilter(RuntimeFilterMessage),
}

#[derive(Clone, PartialEq, Message)]
struct GatherMessage {}

/// The filters themselves travel with the scan beneath.
#[derive(Clone, PartialEq, Message)]
struct RuntimeFilterMessage {
    #[prost(uint32, repeated, tag = 1)]
    picks: Vec<u32>,
    #[prost(message, repeated, tag = 2)]
    told: Vec<ToldFilterMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct ToldFilterMessage {
    #[prost(uint32, tag = 1)]
    column: u32,
    #[prost(uint32, tag = 2)]
    stage: u32,
    #[prost(uint32, tag = 3)]
    number: u32,
    #[prost(uint32, tag = 4)]
    of: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StagedWriteMessage {
    #[prost(string, tag = 1)]
    target: String,
    #[prost(string, tag = 2)]
    staging: String,
}

#[derive(Clone, PartialEq, Message)]
struct SeriesMessage {
    #[prost(message, optional, tag = 1)]
    schema: Option<protobuf::Schema>,
    #[prost(sint64, tag = 2)]
    start: i64,
    #[prost(sint64, tag = 3)]
    step: i64,
    #[prost(uint64, tag = 4)]
    count: u64,
    #[prost(uint32, tag = 5)]
    partitions: u32,
}

#[derive(Clone, PartialEq, Message)]
struct TextScanMessage {
    #[prost(string, tag = 1)]
    compression: String,
    #[prost(uint32, optional, tag = 2)]
    terminator: Option<u32>,
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
    /// Of a read of all: partitions of the exchange.
    #[prost(uint32, tag = 7)]
    partitions: u32,
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
    Range = 4,
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
            (Some(Node::Series(series)), []) => decode_series(&series),
            (Some(Node::TextScan(scan)), [input]) => {
                let terminator = scan.terminator.map(u8::try_from).transpose();
                let terminator =
                    terminator.map_err(|_| exec_datafusion_err!("a line ends in more than one byte"))?;
                TextScanExec::restore(input, &scan.compression, terminator)
            }
            (Some(Node::RuntimeFilter(filter)), [input]) => decode_filter(filter, input),
            _ => exec_err!("a node of a kind not known here, or with too many inputs"),
        }
    }

    fn try_decode_udaf(&self, name: &str, _buf: &[u8]) -> Result<Arc<AggregateUDF>> {
        let single_value = single_value_udaf();
        if name == single_value.name() {
            return Ok(single_value);
        }
        exec_err!("the aggregate function {name} is not known here")
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
        } else if let Some(series) = node.downcast_ref::<SeriesExec>() {
            Node::Series(encode_series(series)?)
        } else if let Some(scan) = node.downcast_ref::<TextScanExec>() {
            Node::TextScan(TextScanMessage {
                compression: scan.compression().to_owned(),
                terminator: scan.terminator().map(u32::from),
            })
        } else if let Some(filter) = node.downcast_ref::<RuntimeFilterExec>() {
            Node::RuntimeFilter(encode_filter(filter)?)
        } else {
            return exec_err!("{} cannot travel to an executor", node.name());
        };
        NodeMessage { node: Some(node) }
            .encode(buf)
            .map_err(|fault| internal_datafusion_err!("encoding a node: {fault}"))
    }
}

fn encode_filter(filter: &RuntimeFilterExec) -> Result<RuntimeFilterMessage> {
    let picks = filter.picks().iter().map(|&pick| number(pick));
    let told = filter.told().iter().map(|told| match told.teller {
        Teller::Stage(stage) => Ok(ToldFilterMessage {
            column: number(told.column)?,
            stage: stage.0,
            number: number(told.number)?,
            of: number(told.of)?,
        }),
        Teller::Join(_) => internal_err!("a filter travels before the plan is cut"),
    });
    Ok(RuntimeFilterMessage { picks: picks.collect::<Result<_>>()?, told: told.collect::<Result<_>>()? })
}

fn decode_filter(
    message: RuntimeFilterMessage,
    input: &Arc<dyn ExecutionPlan>,
) -> Result<Arc<dyn ExecutionPlan>> {
    let picks = message.picks.into_iter().map(|pick| pick as usize).collect();
    let told = message.told.into_iter().map(|told| ToldFilter {
        column: told.column as usize,
        teller: Teller::Stage(StageId(told.stage)),
        number: told.number as usize,
        of: told.of as usize,
    });
    Ok(Arc::new(RuntimeFilterExec::over(Arc::clone(input), picks, told.collect())?))
}

fn encode_staged_write(write: &StagedWriteExec) -> Result<StagedWriteMessage> {
    let text = |path: &Path| match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => exec_err!("the path {path:?} is no text"),
    };
    Ok(StagedWriteMessage { target: text(write.target())?, staging: text(write.staging())? })
}

fn encode_series(exec: &SeriesExec) -> Result<SeriesMessage> {
    let Series { start, step, count } = exec.series();
    let schema: SchemaRef = exec.schema();
    let partitions = exec.properties().output_partitioning().partition_count();
    let partitions = u32::try_from(partitions).map_err(|_| exec_datafusion_err!("too many partitions"))?;
    Ok(SeriesMessage { schema: Some(schema.as_ref().try_into()?), start, step, count, partitions })
}

fn decode_series(message: &SeriesMessage) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = message.schema.as_ref().ok_or_else(|| exec_datafusion_err!("a series lacks its schema"))?;
    let schema: Schema = schema.try_into()?;
    let SeriesMessage { start, step, count, partitions, .. } = *message;
    let series = SeriesExec::try_new(Series { start, step, count }, Arc::new(schema), partitions as usize)?;
    Ok(Arc::new(series))
}

fn encode_read(
    read: &ShuffleReadExec,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<ShuffleReadMessage> {
    let schema: SchemaRef = read.schema();
    // What is known of an order may be told in fewer expressions than keys are made of.
    let ordering = match read.kind() {
        ReadKind::Range(ordering) => Some(ordering),
        ReadKind::Partition | ReadKind::All { .. } | ReadKind::Lane => read.ordering(),
    };
    let ordering = match ordering {
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
        ReadKind::All { .. } => ReadKindMessage::All,
        ReadKind::Lane => ReadKindMessage::Lane,
        ReadKind::Range(_) => ReadKindMessage::Range,
    });
    if let ReadKind::All { partitions } = read.kind() {
        message.partitions = number(*partitions)?;
    }
    Ok(message)
}

fn decode_read(
    message: ShuffleReadMessage,
    ctx: &TaskContext,
    converter: &dyn PhysicalProtoConverterExtension,
) -> Result<Arc<dyn ExecutionPlan>> {
    let decoding = PhysicalPlanDecodeContext::new(ctx, &OwnNodes);
    let schema = message.schema.as_ref().ok_or_else(|| exec_datafusion_err!("a read lacks its schema"))?;
    let schema: Schema = schema.try_into()?;
    let partitioning =
        parse_protobuf_partitioning(message.partitioning.as_ref(), &decoding, &schema, converter)?
            .ok_or_else(|| exec_datafusion_err!("a read lacks its partitioning"))?;
    let ordering = parse_physical_sort_exprs(&message.ordering, &decoding, &schema, converter)?;
    let ordering = LexOrdering::new(ordering);
    let kind = match message.kind() {
        ReadKindMessage::Partition => ReadKind::Partition,
        ReadKindMessage::All => ReadKind::All { partitions: message.partitions as usize },
        ReadKindMessage::Lane => ReadKind::Lane,
        ReadKindMessage::Range => {
            let ordering = ordering.clone();
            let ordering = ordering.ok_or_else(|| exec_datafusion_err!("a read by range lacks its order"))?;
            check_ranges(&ordering, &schema)?;
            ReadKind::Range(ordering)
        }
        ReadKindMessage::Unspecified => return exec_err!("a read of a kind not known here"),
    };
    let same = message.same.iter().map(|same| {
        let exprs = same.exprs.iter().map(|expr| converter.proto_to_physical_expr(expr, &schema, &decoding));
        Ok(SameValue { exprs: exprs.collect::<Result<_>>()?, constant: same.constant })
    });
    let same = same.collect::<Result<_>>()?;
    let stage = StageId(message.stage);
    let read = ShuffleReadExec::try_new(stage, kind, Arc::new(schema), partitioning, ordering, same)?;
    Ok(Arc::new(read))
}
