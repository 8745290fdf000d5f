//! The actor and the reason for audit records of changes made on the command line.

/// The user who runs this command, as audit records name them: `console:<user>`.
pub(crate) fn current() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten();
    user.map_or_else(|| format!("console:{}", nix::unistd::getuid()), |user| format!("console:{}", user.name))
}

/// Parses a reason that is given on the command line.
///
/// # Errors
/// What is wrong with it, as a text.
pub(crate) fn parse_reason(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("say why".into());
    }
    shop::bounds::REASON
        .violation("/reason", text)
        .map_or_else(|| Ok(text.to_owned()), |wrong| Err(wrong.message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_line_and_not_blank() {
        assert_eq!(parse_reason("left us"), Ok("left us".into()));
        for wrong in ["", "  ", "a\nb", "a\0b", &"x".repeat(501)] {
            parse_reason(wrong).expect_err(wrong);
        }
    }
}
