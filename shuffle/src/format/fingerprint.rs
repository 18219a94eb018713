//! Which layout a schema has: producer and consumer agree when their fingerprints do.

use arrow_schema::{DataType, IntervalUnit, Schema, TimeUnit, UnionMode};
use xxhash_rust::xxh3::Xxh3Default;

/// The fingerprint of a schema: xxh3-64 over the types of its columns, as `FORMAT.md` lists them. Names, nullability
/// and metadata do not count, since the bytes do not depend on them.
#[must_use]
pub fn fingerprint(schema: &Schema) -> u64 {
    let mut hash = Xxh3Default::new();
    number(&mut hash, schema.fields().len() as u64);
    schema.fields().iter().for_each(|field| describe(field.data_type(), &mut hash));
    hash.digest()
}

/// True when frames of both types have the same layout.
pub(crate) fn same_layout(a: &DataType, b: &DataType) -> bool {
    if a == b {
        return true;
    }
    let print = |data_type| {
        let mut hash = Xxh3Default::new();
        describe(data_type, &mut hash);
        hash.digest()
    };
    print(a) == print(b)
}

fn number(hash: &mut Xxh3Default, number: u64) {
    hash.update(&number.to_le_bytes());
}

fn unit(unit: TimeUnit) -> u64 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 1,
        TimeUnit::Microsecond => 2,
        TimeUnit::Nanosecond => 3,
    }
}

/// Feeds the type's tag, then its parameters, then its children, each number as 8 bytes.
fn describe(data_type: &DataType, hash: &mut Xxh3Default) {
    use DataType as T;
    let (tag, parameters): (u64, &[u64]) = match data_type {
        T::Null => (0, &[]),
        T::Boolean => (1, &[]),
        T::Int8 => (2, &[]),
        T::Int16 => (3, &[]),
        T::Int32 => (4, &[]),
        T::Int64 => (5, &[]),
        T::UInt8 => (6, &[]),
        T::UInt16 => (7, &[]),
        T::UInt32 => (8, &[]),
        T::UInt64 => (9, &[]),
        T::Float16 => (10, &[]),
        T::Float32 => (11, &[]),
        T::Float64 => (12, &[]),
        T::Date32 => (13, &[]),
        T::Date64 => (14, &[]),
        T::Time32(u) => (15, &[unit(*u)]),
        T::Time64(u) => (16, &[unit(*u)]),
        T::Timestamp(u, zone) => (17, &[unit(*u), u64::from(zone.is_some())]),
        T::Duration(u) => (18, &[unit(*u)]),
        T::Interval(IntervalUnit::YearMonth) => (19, &[0]),
        T::Interval(IntervalUnit::DayTime) => (19, &[1]),
        T::Interval(IntervalUnit::MonthDayNano) => (19, &[2]),
        T::Decimal32(p, s) => (20, &[u64::from(*p), *s as u64]),
        T::Decimal64(p, s) => (21, &[u64::from(*p), *s as u64]),
        T::Decimal128(p, s) => (22, &[u64::from(*p), *s as u64]),
        T::Decimal256(p, s) => (23, &[u64::from(*p), *s as u64]),
        T::Utf8 => (24, &[]),
        T::LargeUtf8 => (25, &[]),
        T::Utf8View => (26, &[]),
        T::Binary => (27, &[]),
        T::LargeBinary => (28, &[]),
        T::BinaryView => (29, &[]),
        T::FixedSizeBinary(size) => (30, &[*size as u64]),
        T::List(_) => (31, &[]),
        T::LargeList(_) => (32, &[]),
        T::FixedSizeList(_, size) => (33, &[*size as u64]),
        T::ListView(_) => (34, &[]),
        T::LargeListView(_) => (35, &[]),
        T::Struct(fields) => (36, &[fields.len() as u64]),
        T::Map(_, sorted) => (37, &[u64::from(*sorted)]),
        T::Union(fields, UnionMode::Sparse) => (38, &[0, fields.len() as u64]),
        T::Union(fields, UnionMode::Dense) => (38, &[1, fields.len() as u64]),
        T::Dictionary(_, _) => (39, &[]),
        T::RunEndEncoded(_, _) => (40, &[]),
    };
    number(hash, tag);
    parameters.iter().for_each(|parameter| number(hash, *parameter));
    describe_rest(data_type, hash);
}

/// The parts of a type that are no numbers: a time zone's name, children.
fn describe_rest(data_type: &DataType, hash: &mut Xxh3Default) {
    use DataType as T;
    match data_type {
        T::Timestamp(_, Some(zone)) => {
            number(hash, zone.len() as u64);
            hash.update(zone.as_bytes());
        }
        T::List(child)
        | T::LargeList(child)
        | T::ListView(child)
        | T::LargeListView(child)
        | T::FixedSizeList(child, _)
        | T::Map(child, _) => describe(child.data_type(), hash),
        T::Struct(fields) => fields.iter().for_each(|field| describe(field.data_type(), hash)),
        T::Union(fields, _) => fields.iter().for_each(|(id, field)| {
            number(hash, id as u64);
            describe(field.data_type(), hash);
        }),
        T::Dictionary(keys, values) => {
            describe(keys, hash);
            describe(values, hash);
        }
        T::RunEndEncoded(ends, values) => {
            describe(ends.data_type(), hash);
            describe(values.data_type(), hash);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_schema::Field;

    fn print(data_type: DataType) -> u64 {
        fingerprint(&Schema::new(vec![Field::new("a", data_type, true)]))
    }

    #[test]
    fn names_do_not_count_and_types_do() {
        let list = |name: &str| DataType::new_list(DataType::Int32, true).clone().with_item_name(name);
        assert_eq!(print(list("item")), print(list("element")));
        assert_ne!(print(DataType::Int32), print(DataType::Date32));
        assert_ne!(print(DataType::Decimal128(10, 2)), print(DataType::Decimal128(10, 3)));
        let zoned = |zone: Option<&str>| print(DataType::Timestamp(TimeUnit::Second, zone.map(Into::into)));
        assert!(zoned(None) != zoned(Some("UTC")) && zoned(Some("UTC")) != zoned(Some("+00:00")));
    }

    #[test]
    fn nesting_is_unambiguous() {
        let pair = |a, b| DataType::Struct(vec![Field::new("a", a, true), Field::new("b", b, true)].into());
        let inner = pair(DataType::Int8, DataType::Int16);
        assert_ne!(print(pair(inner.clone(), DataType::Int32)), print(pair(DataType::Int32, inner)));
    }

    trait WithItemName {
        fn with_item_name(self, name: &str) -> Self;
    }

    impl WithItemName for DataType {
        fn with_item_name(self, name: &str) -> Self {
            match self {
                Self::List(item) => Self::List(item.as_ref().clone().with_name(name).into()),
                other => other,
            }
        }
    }
}
