//! The tables of TPC-DS.

use std::ops::RangeInclusive;

use arrow::datatypes::SchemaRef;
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

use super::SortKey;
use crate::generate::skew::{self, Skew};

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

/// `$then!(reader)` with the reader of the rows of `$table`.
macro_rules! with_reader_of {
    ($table:expr, $then:ident) => {
        match $table {
            T::CallCenter => $then!(CallCenterArrow),
            T::CatalogPage => $then!(CatalogPageArrow),
            T::CatalogReturns => $then!(CatalogReturnsArrow),
            T::CatalogSales => $then!(CatalogSalesArrow),
            T::Customer => $then!(CustomerArrow),
            T::CustomerAddress => $then!(CustomerAddressArrow),
            T::CustomerDemographics => $then!(CustomerDemographicsArrow),
            T::DateDim => $then!(DateDimArrow),
            T::HouseholdDemographics => $then!(HouseholdDemographicsArrow),
            T::IncomeBand => $then!(IncomeBandArrow),
            T::Inventory => $then!(InventoryArrow),
            T::Item => $then!(ItemArrow),
            T::Promotion => $then!(PromotionArrow),
            T::Reason => $then!(ReasonArrow),
            T::ShipMode => $then!(ShipModeArrow),
            T::Store => $then!(StoreArrow),
            T::StoreReturns => $then!(StoreReturnsArrow),
            T::StoreSales => $then!(StoreSalesArrow),
            T::TimeDim => $then!(TimeDimArrow),
            T::Warehouse => $then!(WarehouseArrow),
            T::WebPage => $then!(WebPageArrow),
            T::WebReturns => $then!(WebReturnsArrow),
            T::WebSales => $then!(WebSalesArrow),
            T::WebSite => $then!(WebSiteArrow),
            T::DbgenVersion => unreachable!("it is not among the benchmark's tables"),
        }
    };
}

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

/// Whether [`rows`] are all rows and no more.
pub(super) fn rows_are_exact(table: T) -> bool {
    !is_of_orders(table)
}

/// Whether it is one of sales or returns.
fn is_of_orders(table: T) -> bool {
    use T::{CatalogReturns, CatalogSales, StoreReturns, StoreSales, WebReturns, WebSales};
    matches!(table, StoreSales | StoreReturns | CatalogSales | CatalogReturns | WebSales | WebReturns)
}

/// The columns of `table`.
pub(super) fn schema(table: T) -> SchemaRef {
    macro_rules! schema {
        ($reader:ident) => {
            $reader::schema_ref()
        };
    }
    with_reader_of!(table, schema)
}

/// By what `table` is sorted.
pub(super) fn sort_key(table: T) -> SortKey {
    match table {
        T::StoreSales => SortKey::sorted(&["ss_sold_date_sk"]),
        T::StoreReturns => SortKey::sorted(&["sr_returned_date_sk"]),
        T::CatalogSales => SortKey::sorted(&["cs_sold_date_sk"]),
        T::CatalogReturns => SortKey::sorted(&["cr_returned_date_sk"]),
        T::WebSales => SortKey::sorted(&["ws_sold_date_sk"]),
        T::WebReturns => SortKey::sorted(&["wr_returned_date_sk"]),
        T::Inventory => SortKey::generated(&["inv_date_sk"]),
        T::CallCenter => SortKey::generated(&["cc_call_center_sk"]),
        T::CatalogPage => SortKey::generated(&["cp_catalog_page_sk"]),
        T::Customer => SortKey::generated(&["c_customer_sk"]),
        T::CustomerAddress => SortKey::generated(&["ca_address_sk"]),
        T::CustomerDemographics => SortKey::generated(&["cd_demo_sk"]),
        T::DateDim => SortKey::generated(&["d_date_sk"]),
        T::HouseholdDemographics => SortKey::generated(&["hd_demo_sk"]),
        T::IncomeBand => SortKey::generated(&["ib_income_band_sk"]),
        T::Item => SortKey::generated(&["i_item_sk"]),
        T::Promotion => SortKey::generated(&["p_promo_sk"]),
        T::Reason => SortKey::generated(&["r_reason_sk"]),
        T::ShipMode => SortKey::generated(&["sm_ship_mode_sk"]),
        T::Store => SortKey::generated(&["s_store_sk"]),
        T::TimeDim => SortKey::generated(&["t_time_sk"]),
        T::Warehouse => SortKey::generated(&["w_warehouse_sk"]),
        T::WebPage => SortKey::generated(&["wp_web_page_sk"]),
        T::WebSite => SortKey::generated(&["web_site_sk"]),
        T::DbgenVersion => unreachable!("it is not among the benchmark's tables"),
    }
}

/// Whether a share has any rows: the generator does not cut small tables.
pub(super) fn has_rows(table: T, scale: f64, index: u32, count: u32) -> bool {
    session(scale, index, count).is_ok_and(|session| !session.get_source_row_range(table).is_empty())
}

/// The `index`th of `count` shares of the rows of `table`, from 0, as the generator cuts it.
pub(super) fn read(
    table: T,
    scale: f64,
    skew: Option<Skew>,
    index: u32,
    count: u32,
) -> Result<Box<dyn RecordBatchReader>, UserError> {
    let session = session(scale, index, count)?;
    let share = session.get_source_row_range(table);
    Ok(read_range(table, skew, &session, &share))
}

/// As [`read`], but every table is cut, by orders where it has any.
pub(super) fn slice(
    table: T,
    scale: f64,
    skew: Option<Skew>,
    index: u32,
    count: u32,
) -> Result<Box<dyn RecordBatchReader>, UserError> {
    let session = session(scale, 0, 1)?;
    let all = session.get_scaling().get_row_count(table);
    let end = |index: u32| all * u64::from(index) / u64::from(count);
    Ok(read_range(table, skew, &session, &(end(index) + 1..=end(index + 1))))
}

fn read_range(
    table: T,
    skew: Option<Skew>,
    session: &Session,
    share: &RangeInclusive<u64>,
) -> Box<dyn RecordBatchReader> {
    let read = |table: T| {
        macro_rules! reader {
            ($reader:ident) => {
                Box::new($reader::new(session.clone()).with_source_row_range(*share.start(), *share.end()))
                    as Box<dyn RecordBatchReader>
            };
        }
        with_reader_of!(table, reader)
    };
    match skew {
        None => read(table),
        Some(skew) => {
            skew::tpcds::skewed(table, skew, |table| session.get_scaling().get_row_count(table), &read)
        }
    }
}
