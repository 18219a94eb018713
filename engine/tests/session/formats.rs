//! Tables over every kind of file.

use crate::lab::Lab;

const THREE_ROWS: &str = "select * from (values (1, 'one'), (2, 'two'), (3, null)) as t (n, name)";
const SUM: &str = "+---+-------+------+
| n | names | rows |
+---+-------+------+
| 6 | 2     | 3    |
+---+-------+------+";

async fn check_sum(lab: &Lab, from: &str) {
    let rows =
        lab.rows(&format!("select sum(n) as n, count(name) as names, count(*) as rows from {from}")).await;
    assert_eq!(rows, SUM, "{from}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_reads_what_it_wrote() {
    for lab in Lab::both() {
        for (format, extension) in
            [("parquet", "parquet"), ("csv", "csv"), ("json", "json"), ("arrow", "arrow")]
        {
            let file = format!("$dir/{format}/a.{extension}");
            lab.rows(&format!("copy ({THREE_ROWS}) to '{file}' stored as {format}")).await;
            lab.rows(&format!(
                "create external table {format}_folder stored as {format} location '$dir/{format}/'"
            ))
            .await;
            lab.rows(&format!("create external table {format}_file stored as {format} location '{file}'"))
                .await;
            check_sum(&lab, &format!("{format}_folder")).await;
            check_sum(&lab, &format!("{format}_file")).await;
            check_sum(&lab, &format!("'{file}'")).await;
            check_sum(&lab, &format!("'$dir/{format}/'")).await;
            check_sum(&lab, &format!("'$dir/{format}/*.{extension}'")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn avro_is_read() {
    use firesteel_engine::datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
    use firesteel_engine::datafusion::arrow::datatypes::{DataType, Field, Schema};
    use firesteel_engine::datafusion::arrow_avro::writer::AvroWriter;
    use std::sync::Arc;

    let schema =
        Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("name", DataType::Utf8, true)]);
    let columns: Vec<Arc<dyn firesteel_engine::datafusion::arrow::array::Array>> = vec![
        Arc::new(Int64Array::from(vec![1, 2, 3])),
        Arc::new(StringArray::from(vec![Some("one"), Some("two"), None])),
    ];
    let batch = RecordBatch::try_new(Arc::new(schema.clone()), columns).unwrap();
    for lab in Lab::both() {
        let mut writer = AvroWriter::new(Vec::new(), schema.clone()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        lab.write("a.avro", writer.into_inner());
        lab.rows("create external table t stored as avro location '$dir/a.avro'").await;
        check_sum(&lab, "t").await;
        check_sum(&lab, "'$dir/a.avro'").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_text_is_known_by_its_name() {
    for lab in Lab::both() {
        for (format, extension) in [("csv", "csv.gz"), ("csv", "csv.zst"), ("json", "json.gz")] {
            let compression = if extension.ends_with("gz") { "gzip" } else { "zstd" };
            let name = extension.replace('.', "_");
            lab.rows(&format!(
                "copy ({THREE_ROWS}) to '$dir/{name}/a.{extension}' stored as {format} \
                 options ('format.compression' '{compression}')"
            ))
            .await;
            lab.rows(&format!("create external table {name} stored as {format} location '$dir/{name}/'"))
                .await;
            check_sum(&lab, &name).await;
            check_sum(&lab, &format!("'$dir/{name}/a.{extension}'")).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_go_by_their_other_names() {
    for lab in Lab::both() {
        lab.write("lines/a.jsonl", "{\"n\": 1, \"name\": \"one\"}\n{\"n\": 2, \"name\": \"two\"}\n");
        lab.write("lines/b.jsonl", "{\"n\": 3}\n");
        lab.rows("create external table t stored as jsonl location '$dir/lines/'").await;
        check_sum(&lab, "t").await;
        check_sum(&lab, "'$dir/lines/'").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_named_by_values_are_columns() {
    for lab in Lab::both() {
        lab.rows(
            "copy (select * from (values (1, 'a'), (2, 'b'), (3, 'b')) as t (n, part)) to '$dir/hive/' \
             stored as parquet partitioned by (part)",
        )
        .await;
        lab.rows("create external table t stored as parquet location '$dir/hive/'").await;
        let rows = lab.rows("select part, sum(n) as n from t group by part order by part").await;
        assert_eq!(
            rows,
            "+------+---+\n| part | n |\n+------+---+\n| a    | 1 |\n| b    | 5 |\n+------+---+"
        );
        assert_eq!(lab.value("select count(*) from t where part = 'b'").await, "2");
        lab.rows(
            "create external table d (n bigint, part varchar) stored as parquet partitioned by (part) \
             location '$dir/hive/'",
        )
        .await;
        assert_eq!(lab.value("select sum(n) from d where part = 'b'").await, "5");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_locations_make_one_table() {
    for lab in Lab::both() {
        lab.rows("copy (select 1 as n, 'one' as name) to '$dir/a.parquet'").await;
        lab.rows("copy (select 5 as n, 'two' as name union all select 0, null) to '$dir/b.parquet'").await;
        lab.rows("create external table t stored as parquet location ('$dir/a.parquet', '$dir/b.parquet')")
            .await;
        check_sum(&lab, "t").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_come_later_are_read() {
    for lab in Lab::both() {
        lab.write("t/a.csv", "n\n1\n");
        lab.rows("create external table t stored as csv location '$dir/t/'").await;
        assert_eq!(lab.value("select sum(n) from t").await, "1");
        lab.write("t/b.csv", "n\n2\n");
        assert_eq!(lab.value("select sum(n) from t").await, "3");
    }
}
