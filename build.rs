//! Passes the cargo profile to the binary. Cargo tells it to build scripts only through the folder that it builds in:
//! `target/<profile>/build/sagaline-<hash>/out`, where the profile `dev` is called `debug`.

use std::{env, path::PathBuf};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let build = out.ancestors().find(|folder| folder.ends_with("build"));
    let folder = build.and_then(|build| build.parent()?.file_name()?.to_str());
    let profile = match folder {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=SAGALINE_PROFILE={profile}");
}
