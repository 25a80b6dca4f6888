//! The programs that must not compile, and what the compiler says of them.

#[test]
fn compile_fail() {
    trybuild::TestCases::new().compile_fail("compile_fail/*.rs");
}
