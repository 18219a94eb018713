//! What DataFusion's protocol leaves out of a scan of text files: how they are compressed, and what ends a line.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use datafusion::common::exec_err;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::physical_plan::{CsvSource, FileScanConfig, FileScanConfigBuilder, FileSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};

use crate::ops::plan_boilerplate;

/// Stands above such a scan while it travels, and carries what would be lost; decoding puts it back into the scan.
#[derive(Debug)]
pub(super) struct TextScanExec {
    scan: Arc<dyn ExecutionPlan>,
    compression: String,
    terminator: Option<u8>,
    properties: Arc<PlanProperties>,
}

impl TextScanExec {
    /// `plan` with each scan that would lose something under a node that carries it.
    pub fn put_above_scans(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        plan.transform_up(|node| match Self::above(&node) {
            Some(carrier) => Ok(Transformed::yes(Arc::new(carrier) as Arc<dyn ExecutionPlan>)),
            None => Ok(Transformed::no(node)),
        })
        .data()
    }

    fn above(node: &Arc<dyn ExecutionPlan>) -> Option<Self> {
        let config = files_of(node)?;
        let compression = config.file_compression_type;
        let source: &dyn FileSource = config.file_source.as_ref();
        let terminator = source.downcast_ref::<CsvSource>().and_then(CsvSource::terminator);
        if !compression.is_compressed() && terminator.is_none() {
            return None;
        }
        Some(Self {
            scan: Arc::clone(node),
            compression: compression.get_variant().to_string(),
            terminator,
            properties: Arc::clone(node.properties()),
        })
    }

    /// The scan with what was carried for it.
    pub fn restore(
        scan: &Arc<dyn ExecutionPlan>,
        compression: &str,
        terminator: Option<u8>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(config) = files_of(scan) else {
            return exec_err!("{} reads no text files", scan.name());
        };
        let compression = FileCompressionType::from_str(compression)?;
        let source: &dyn FileSource = config.file_source.as_ref();
        let mut builder = FileScanConfigBuilder::from(config.clone()).with_file_compression_type(compression);
        if let Some(csv) = source.downcast_ref::<CsvSource>() {
            builder = builder.with_source(Arc::new(csv.with_terminator(terminator)));
        }
        Ok(DataSourceExec::from_data_source(builder.build()))
    }

    pub fn compression(&self) -> &str {
        &self.compression
    }

    pub fn terminator(&self) -> Option<u8> {
        self.terminator
    }
}

fn files_of(node: &Arc<dyn ExecutionPlan>) -> Option<&FileScanConfig> {
    node.downcast_ref::<DataSourceExec>()?.data_source().downcast_ref::<FileScanConfig>()
}

impl DisplayAs for TextScanExec {
    fn fmt_as(&self, _t: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TextScanExec: compression={}", self.compression)
    }
}

impl ExecutionPlan for TextScanExec {
    plan_boilerplate!(TextScanExec, |carrier, mut children| Ok(Arc::new(Self {
        scan: children.swap_remove(0),
        compression: carrier.compression.clone(),
        terminator: carrier.terminator,
        properties: Arc::clone(&carrier.properties),
    })));

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.scan]
    }

    fn execute(&self, _partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        exec_err!("a scan that travels does not run")
    }
}
