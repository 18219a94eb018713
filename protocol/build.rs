//! Compiles the `.proto` files without an installed `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["common.proto", "manager.proto", "worker.proto", "executor.proto", "members.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    // What holds secrets is not told by `Debug`; `secrets.rs` says how it is.
    let secret = ["LaunchDriver", "FetchResultRequest", "JobInfo"].map(|name| format!("firesteel.v1.{name}"));
    tonic_prost_build::configure().bytes(".").skip_debug(secret).compile_fds(descriptors)?;
    Ok(())
}
