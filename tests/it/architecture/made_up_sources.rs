//! Tests of the import reader, on made-up sources.

use super::{
    arrows::{arrows, cycles},
    layers::{Crate, Order},
    modules::Files,
};

fn files(sources: &[(&str, &str)]) -> Files {
    sources.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Each import as `from:line to`.
fn found(sources: &[(&str, &str)]) -> Vec<String> {
    arrows(&files(sources))
        .into_iter()
        .map(|arrow| format!("{}:{} {}", arrow.from, arrow.line, arrow.to))
        .collect()
}

const HOUSE: Crate = Crate {
    source: "house/src",
    orders: &[
        Order { within: "", floors: &[&["cellar"], &["kitchen", "hall"], &["attic"]] },
        Order { within: "hall", floors: &[&["*"], &["stairs"]] },
    ],
};

#[test]
fn an_upward_import_is_reported_with_its_line_and_rule() {
    let sources = files(&[
        ("lib.rs", "mod attic;\nmod cellar;\nmod kitchen;"),
        ("cellar.rs", "//! Below.\n\nuse crate::attic::Roof;\n"),
        ("kitchen.rs", "use crate::cellar::Wine;"),
        ("attic.rs", "pub struct Roof;\nuse crate::kitchen::Table;"),
    ]);
    let wrong = HOUSE.upward(&arrows(&sources));
    let wrong: Vec<_> = wrong.iter().map(ToString::to_string).collect();
    assert_eq!(
        wrong,
        ["cellar.rs:3 uses attic.rs (`crate::attic::Roof`): imports go down, cellar < kitchen, hall < attic"]
    );
}

#[test]
fn a_folder_has_its_own_order_with_its_own_file_on_top() {
    let sources = files(&[
        ("lib.rs", "mod hall;"),
        ("hall.rs", "mod carpet;\nmod stairs;\nuse crate::hall::stairs::Step;"),
        ("hall/carpet.rs", "use super::stairs::Step;"),
        ("hall/stairs.rs", "use super::carpet::Pattern;\npub struct Step;"),
    ]);
    let wrong = HOUSE.upward(&arrows(&sources));
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert_eq!((wrong[0].arrow.from.as_str(), wrong[0].arrow.line), ("hall/carpet.rs", 1));
    assert_eq!(wrong[0].rule, "imports go down, in hall: * < stairs");
}

#[test]
fn a_file_that_no_order_names_is_reported() {
    let names = ["lib.rs", "cellar/wine.rs", "garden.rs", "hall/carpet.rs"].map(str::to_owned);
    assert_eq!(HOUSE.unplaced(names.iter()), ["garden.rs"]);
}

#[test]
fn files_that_import_each_other_are_a_cycle_without_their_neighbours() {
    let arrows = arrows(&files(&[
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B;"),
        ("b.rs", "fn f() { crate::c::g() }"),
        ("c.rs", "type T = super::a::A;"),
        ("d.rs", "use crate::a::A;"),
    ]));
    assert_eq!(cycles(&arrows), [["a.rs", "b.rs", "c.rs"]]);
    assert_eq!(cycles(&arrows[1..]), Vec::<Vec<String>>::new());
}

#[test]
fn comments_strings_and_visibilities_are_ignored() {
    let text = r##"
        // use crate::b::X;
        /// [`crate::b::X`]
        /* use crate::b::X; /* use crate::b::X; */ use crate::b::X; */
        const A: &str = "crate::b::X \" crate::b::X";
        const B: &str = r#"crate::b::X " crate::b::X"#;
        const C: (char, char, u8) = ('"', '\'', b'"');
        pub(in crate::b) fn f<'a>(x: &'a str) -> &'a str { x }
        fn g() -> impl Iterator<Item = u8> + use<'static> { std::iter::empty() }
    "##;
    assert_eq!(found(&[("lib.rs", "mod a; mod b;"), ("a.rs", text), ("b.rs", "pub struct X;")]), [""; 0]);
}

#[test]
fn nested_use_trees_and_macros_are_read_to_the_end() {
    let text = "use crate::{\n    b::{X, c::{self, Y}},\n    d::*,\n    e as f,\n};\nmacro_rules! m { () => { $crate::g::go() } }";
    let sources = [
        ("lib.rs", "mod a; mod b; mod d; mod e; mod g;"),
        ("a.rs", text),
        ("b.rs", "pub mod c; pub struct X;"),
        ("b/c.rs", "pub struct Y;"),
        ("d.rs", ""),
        ("e.rs", ""),
        ("g.rs", "pub fn go() {}"),
    ];
    assert_eq!(
        found(&sources),
        ["a.rs:2 b.rs", "a.rs:2 b/c.rs", "a.rs:3 d.rs", "a.rs:4 e.rs", "a.rs:6 g.rs"]
    );
}

#[test]
fn each_super_goes_up_one_module_also_out_of_inline_modules() {
    let sources = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "mod c;"),
        ("a/c.rs", "use super::super::b::X;\nmod tests {\n    use super::*;\n    use super::super::A;\n}"),
        ("b.rs", "mod tests { use super::*; fn f(x: X) {} }\npub struct X;"),
    ];
    assert_eq!(found(&sources), ["a/c.rs:4 a.rs", "a/c.rs:1 b.rs"]);
}

#[test]
fn a_re_exported_item_belongs_to_the_child_that_defines_it() {
    let sources = [
        ("lib.rs", "mod a; mod b;\npub use a::{X, Y};"),
        ("a.rs", "mod c;\nmod d;\npub use c::X;\npub(crate) use self::d::*;\nuse std::fmt::Debug;"),
        ("a/c.rs", "pub struct X;"),
        ("a/d.rs", "pub struct Y;\nuse super::Debug;"),
        ("b.rs", "use crate::a::X;\nuse crate::a::Y;\nuse crate::a::Debug;"),
    ];
    assert_eq!(found(&sources), ["b.rs:1 a/c.rs", "b.rs:2 a/d.rs"]);
}

#[test]
fn a_path_through_an_imported_module_resolves_to_the_file_of_its_last_segment() {
    let sources = [
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "pub(crate) mod c;"),
        ("a/c.rs", "pub fn f() {}"),
        ("b.rs", "use crate::a;\n\nfn g() { a::c::f() }"),
    ];
    assert_eq!(found(&sources), ["b.rs:1 a.rs", "b.rs:3 a/c.rs"]);
}

#[test]
fn a_use_of_the_parent_is_an_import_but_a_parents_mention_of_its_child_is_not() {
    let sources = [
        ("lib.rs", "mod a;"),
        ("a.rs", "mod c;\npub struct A;\nfn f() { c::g() }"),
        ("a/c.rs", "use super::A;\npub fn g() {}"),
    ];
    assert_eq!(found(&sources), ["a/c.rs:1 a.rs"]);
}

#[test]
fn a_binary_beside_a_library_is_not_part_of_it() {
    let sources = [
        ("lib.rs", "mod a;\npub fn run() {}"),
        ("main.rs", "fn main() { made_up::run() }"),
        ("a.rs", "use crate::run;"),
    ];
    assert_eq!(found(&sources), ["a.rs:1 lib.rs"]);
}
