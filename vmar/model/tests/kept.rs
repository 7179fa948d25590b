// SPDX-License-Identifier: MPL-2.0

//! What has differed once: each script in `kept/` is made again.

use std::{fs, path::Path};

use vmar_model::Script;

#[test]
fn what_differed_once_agrees() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kept");
    let mut count = 0;
    for entry in fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        Script(&fs::read(&path).unwrap()).check();
        count += 1;
    }
    assert!(count > 0, "nothing is kept in {}", folder.display());
}
