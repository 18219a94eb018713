//! Input that is wrong: one clear error each, that names the thing, the place and what to do.

use datafusion_proto::protobuf::PhysicalPlanNode;
use datafusion_proto::protobuf::physical_plan_node::PhysicalPlanType;
use firesteel_engine::codec;
use firesteel_engine::datafusion::execution::TaskContext;
use prost::Message;

use crate::lab::Lab;

/// One table of all faults: what was asked, and what was answered.
async fn faults(lab: &Lab, statements: &[&str]) -> String {
    let mut text = String::new();
    for statement in statements {
        text += &format!("> {statement}\n{}\n\n", lab.fault(statement).await);
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_syntax() {
    let lab = Lab::local();
    lab.rows("create table orders as select 1 as o_orderkey, 'x' as o_comment").await;
    let text = faults(
        &lab,
        &[
            "select * from ordrs",
            "select * from customers",
            "select o_orderky from orders",
            "select o.o_orderky from orders o",
            "select 1,\n  o_komment from orders",
            "select squrt(2)",
            "select upper(1, 2)",
            "selct 1",
            "select 1 +\n  from orders",
            "select 'open",
            "select 1; select 2",
            "",
            "select o_orderkey from orders group by o_comment",
            "select o_orderkey + o_comment from orders where o_comment",
            "insert into nowhere values (1)",
            "create external table t stored as parqet location '$dir'",
            "set datafusion.execution.batchsize = 1",
            "set datafusion.execution.batch_size = 'many'",
        ],
    )
    .await;
    insta::assert_snapshot!(text);
}

#[tokio::test(flavor = "multi_thread")]
async fn values() {
    for lab in Lab::both() {
        lab.write("t.csv", "n,s\n1,one\n0,2\n");
        lab.rows("create external table t stored as csv location '$dir/t.csv'").await;
        let text = faults(
            &lab,
            &[
                "select 1 / n from t",
                "select cast(s as int) from t",
                "select arrow_cast(n * 9223372036854775807, 'Int32') from t",
                "select to_timestamp(s) from t",
            ],
        )
        .await;
        insta::assert_snapshot!(text);
    }
}

async fn lab_of_files() -> Lab {
    let lab = Lab::local();
    std::fs::create_dir(lab.path("empty")).unwrap();
    lab.write("text/a.txt", "hello");
    lab.write("text/b.md", "hello");
    lab.rows("copy (select 1 as a, 2 as b) to '$dir/types/a.parquet'").await;
    lab.rows("copy (select 1 as a, 'x' as b) to '$dir/types/b.parquet'").await;
    lab.rows("copy (select 1 as a, 2 as b) to '$dir/columns/a.parquet'").await;
    lab.rows("copy (select 1 as a) to '$dir/columns/b.parquet'").await;
    lab.rows("copy (select 1 as a) to '$dir/good/a.parquet'").await;
    let good = std::fs::read(lab.path("good/a.parquet")).unwrap();
    lab.write("truncated/a.parquet", &good);
    lab.write("truncated/b.parquet", &good[..good.len() - 7]);
    let mut bent = good.clone();
    let footer = bent.len() - 20;
    bent[footer..footer + 8].fill(0xff);
    lab.write("bent/a.parquet", &bent);
    lab.write("wrong/a.parquet", "a,b\n1,2\n");
    lab.write("wrong/b.csv", &good);
    lab.write("zero/a.parquet", "");
    lab.write("heads/a.csv", "a,b\n1,2\n");
    lab.write("heads/b.csv", "a,c\n1,2\n");
    lab.write("order/a.csv", "a,b\n1,2\n");
    lab.write("order/b.csv", "b,a\n1,2\n");
    lab.write("ragged/a.csv", "a,b\n1,2\n3\n");
    lab.write("json/a.json", "{\"a\": 1}\n{\"a\": \n");
    lab.write("mixed/a.csv", "a\n1\n");
    lab.write("mixed/b.csv.gz", "a\n1\n");
    lab
}

#[tokio::test(flavor = "multi_thread")]
async fn files() {
    let lab = lab_of_files().await;
    let text = faults(
        &lab,
        &[
            "create external table t stored as parquet location '$dir/god/'",
            "create external table t stored as parquet location '$dir/good/b.parquet'",
            "create external table t stored as parquet location '$dir/nowhere/*.parquet'",
            "create external table t stored as parquet location '$dir/good/x*.parquet'",
            "create external table t stored as parquet location '$dir/empty/'",
            "create external table t stored as parquet location '$dir/text/'",
            "create external table t stored as parquet location '$dir/types/'",
            "create external table t stored as parquet location '$dir/columns/'",
            "create external table t stored as parquet location '$dir/truncated/'",
            "create external table t stored as parquet location '$dir/bent/'",
            "create external table t stored as parquet location '$dir/wrong/a.parquet'",
            "create external table t stored as csv location '$dir/wrong/b.csv'",
            "create external table t stored as parquet location '$dir/zero/'",
            "create external table t stored as csv location '$dir/heads/'",
            "create external table t stored as csv location '$dir/order/'",
            "create external table t stored as csv location '$dir/ragged/'",
            "create external table t stored as json location '$dir/json/'",
            "create external table t stored as csv location '$dir/mixed/'",
            "create external table t stored as parquet location 'gs://bucket/x/'",
            "create external table t stored as parquet location ''",
            "select * from '$dir/god/'",
            "select * from '$dir/good/a.parket'",
            "select * from '$dir/truncated/b.parquet'",
            "select * from '$dir/text/'",
            "select * from '$dir/nowhere.csv'",
        ],
    )
    .await;
    insta::assert_snapshot!(text);
}

#[tokio::test(flavor = "multi_thread")]
async fn declared_columns_allow_files_that_lack_some() {
    for lab in Lab::both() {
        lab.rows("copy (select 1 as a, 2 as b) to '$dir/t/a.parquet'").await;
        lab.rows("copy (select 3 as a) to '$dir/t/b.parquet'").await;
        lab.rows("create external table t (a bigint, b bigint) stored as parquet location '$dir/t/'").await;
        assert_eq!(lab.value("select count(b) from t").await, "1");
        assert_eq!(lab.value("select sum(a) from t").await, "4");
    }
}

/// The line that is ragged lies behind those that the columns are guessed from.
#[tokio::test(flavor = "multi_thread")]
async fn ragged_lines_are_found_when_they_are_read() {
    for lab in Lab::both() {
        let mut lines = "a,b\n".to_owned();
        (0..3000).for_each(|n| lines += &format!("{n},{n}\n"));
        lab.write("t/good.csv", &lines);
        lab.write("t/bad.csv", lines.clone() + "1,2,3\n");
        lab.rows("create external table t stored as csv location '$dir/t/'").await;
        let fault = lab.fault("select sum(a) from t").await;
        assert!(fault.contains("$dir/t/bad.csv"), "{fault}");
        assert!(fault.contains("line 3002"), "{fault}");
    }
}

/// A page that is damaged is met when it is read, and the file is named.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_found_when_they_are_read() {
    for lab in Lab::both() {
        let copy = "copy (select n, cast(n as varchar) as s from (select unnest(range(10000)) as n) as t) to";
        lab.rows(&format!("{copy} '$dir/t/good.parquet'")).await;
        let mut bytes = std::fs::read(lab.path("t/good.parquet")).unwrap();
        let end = bytes.len() / 4;
        bytes[4..end].fill(0xff);
        lab.write("t/bad.parquet", &bytes);
        lab.rows("create external table t stored as parquet location '$dir/t/'").await;
        let fault = lab.fault("select sum(n), max(s) from t").await;
        assert!(fault.contains("$dir/t/bad.parquet"), "{fault}");
    }
}

/// A field of a protocol buffer that holds `bytes`.
fn field(tag: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut all = tag.to_vec();
    prost::encode_length_delimiter(bytes.len(), &mut all).unwrap();
    all.extend_from_slice(bytes);
    all
}

/// A limit of a limit of a limit, and so on: what its decoding would need of the stack must not be up to who sends it.
#[test]
fn a_plan_that_is_nested_too_deeply_is_refused() {
    let kind = Some(PhysicalPlanType::GlobalLimit(Box::default()));
    let mut limit = PhysicalPlanNode { physical_plan_type: kind }.encode_to_vec();
    assert_eq!(limit.pop(), Some(0), "the limit is empty");
    const INPUT: &[u8] = &[1 << 3 | 2];
    let plan = (0..5_000).fold(Vec::new(), |plan, _| field(&limit, &field(INPUT, &plan)));
    let stage = field(&[2 << 3 | 2], &plan);
    let mut encoded = (stage.len() as u64).to_le_bytes().to_vec();
    encoded.extend(zstd::bulk::compress(&stage, 1).unwrap());
    let told = codec::decode_in(&encoded, &TaskContext::default()).unwrap_err();
    assert_eq!(told.message, "a stage's plan cannot be decoded");
    assert!(told.detail.as_ref().unwrap().contains("recursion limit"), "{told}");
}
