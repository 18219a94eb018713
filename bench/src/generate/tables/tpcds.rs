//! The tables of TPC-DS.

use arrow::record_batch::RecordBatchReader;
use firesteel_base::UserError;
use tpcdsgen::config::{Session, SessionBuilder, Table as T};
use tpcdsgen_arrow::{
    CallCenterArrow, CatalogPageArrow, CatalogReturnsArrow, CatalogSalesArrow, CustomerAddressArrow,
    CustomerArrow, CustomerDemographicsArrow, DateDimArrow, HouseholdDemographicsArrow, IncomeBandArrow,
    InventoryArrow, ItemArrow, PromotionArrow, ReasonArrow, ShipModeArrow, StoreArrow, StoreReturnsArrow,
    StoreSalesArrow, TimeDimArrow, WarehouseArrow, WebPageArrow, WebReturnsArrow, WebSalesArrow,
    WebSiteArrow,
};

/// The tables of TPC-DS, the largest first, so that the longest work is begun first. The generator's table about itself
/// is none of the benchmark's.
pub(super) const ALL: [T; 24] = [
    T::Inventory,
    T::StoreSales,
    T::CatalogSales,
    T::CustomerDemographics,
    T::WebSales,
    T::StoreReturns,
    T::CatalogReturns,
    T::Customer,
    T::TimeDim,
    T::DateDim,
    T::WebReturns,
    T::CustomerAddress,
    T::Item,
    T::CatalogPage,
    T::HouseholdDemographics,
    T::Promotion,
    T::WebPage,
    T::Reason,
    T::WebSite,
    T::ShipMode,
    T::IncomeBand,
    T::Store,
    T::CallCenter,
    T::Warehouse,
];

/// The generator set up for a share of the rows.
fn session(scale: f64, index: u32, count: u32) -> Result<Session, UserError> {
    SessionBuilder::new()
        .with_scale_factor(scale)
        .with_chunk_number(index as i32 + 1)
        .with_total_chunks(count as i32)
        .build()
        .map_err(|fault| {
            UserError::new(format!("TPC-DS cannot be generated at scale {scale}")).detail(fault.to_string())
        })
}

/// Rows of `table` at `scale`; of sales and returns about, as a basket holds a random number of items.
pub(super) fn rows(table: T, scale: f64) -> u64 {
    let Ok(session) = session(scale, 0, 1) else { return 0 };
    let counted = session.get_scaling().get_row_count(table);
    // Sales are counted by baskets, and their returns by the baskets they come from.
    match table {
        T::StoreSales | T::WebSales => counted * 12,
        T::CatalogSales => counted * 9,
        _ => counted,
    }
}

/// Whether a share has any rows: the generator does not cut small tables.
pub(super) fn has_rows(table: T, scale: f64, index: u32, count: u32) -> bool {
    session(scale, index, count).is_ok_and(|session| !session.get_source_row_range(table).is_empty())
}

/// The `index`th of `count` shares of the rows of `table`, from 0.
pub(super) fn read(
    table: T,
    scale: f64,
    index: u32,
    count: u32,
) -> Result<Box<dyn RecordBatchReader>, UserError> {
    let session = session(scale, index, count)?;
    let share = session.get_source_row_range(table);
    macro_rules! reader {
        ($reader:ident) => {
            Box::new($reader::new(session).with_source_row_range(*share.start(), *share.end()))
                as Box<dyn RecordBatchReader>
        };
    }
    Ok(match table {
        T::CallCenter => reader!(CallCenterArrow),
        T::CatalogPage => reader!(CatalogPageArrow),
        T::CatalogReturns => reader!(CatalogReturnsArrow),
        T::CatalogSales => reader!(CatalogSalesArrow),
        T::Customer => reader!(CustomerArrow),
        T::CustomerAddress => reader!(CustomerAddressArrow),
        T::CustomerDemographics => reader!(CustomerDemographicsArrow),
        T::DateDim => reader!(DateDimArrow),
        T::HouseholdDemographics => reader!(HouseholdDemographicsArrow),
        T::IncomeBand => reader!(IncomeBandArrow),
        T::Inventory => reader!(InventoryArrow),
        T::Item => reader!(ItemArrow),
        T::Promotion => reader!(PromotionArrow),
        T::Reason => reader!(ReasonArrow),
        T::ShipMode => reader!(ShipModeArrow),
        T::Store => reader!(StoreArrow),
        T::StoreReturns => reader!(StoreReturnsArrow),
        T::StoreSales => reader!(StoreSalesArrow),
        T::TimeDim => reader!(TimeDimArrow),
        T::Warehouse => reader!(WarehouseArrow),
        T::WebPage => reader!(WebPageArrow),
        T::WebReturns => reader!(WebReturnsArrow),
        T::WebSales => reader!(WebSalesArrow),
        T::WebSite => reader!(WebSiteArrow),
        T::DbgenVersion => unreachable!("it is not among the benchmark's tables"),
    })
}
