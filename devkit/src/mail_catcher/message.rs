//! A message as it was received.

/// One message that the server took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The envelope's sender, without angle brackets; empty for a bounce.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// The headers and the body, with the transport's dot-stuffing undone.
    pub data: Vec<u8>,
}

impl Message {
    /// A header's value as written in the message, with folded lines joined.
    pub fn header(&self, name: &str) -> Option<String> {
        let text = String::from_utf8_lossy(&self.data);
        let mut lines = text.lines().take_while(|line| !line.is_empty()).peekable();
        while let Some(line) = lines.next() {
            let Some((_, value)) = line.split_once(':').filter(|(found, _)| found.eq_ignore_ascii_case(name))
            else {
                continue;
            };
            let mut value = value.trim().to_owned();
            while let Some(folded) = lines.next_if(|line| line.starts_with([' ', '\t'])) {
                value.push(' ');
                value.push_str(folded.trim());
            }
            return Some(value);
        }
        None
    }

    /// The `Message-ID`, by which a receiver recognises a message that arrives twice.
    pub fn message_id(&self) -> Option<String> {
        self.header("Message-ID")
    }

    /// The body as it was sent; its transfer encoding is not decoded.
    pub fn body(&self) -> String {
        let text = String::from_utf8_lossy(&self.data);
        text.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_in_any_case_and_unfolded() {
        let message = Message {
            from: String::new(),
            to: Vec::new(),
            data: b"message-id: <1@x>\r\nSubject: a\r\n long one\r\n\r\nX-Body: no\r\n".to_vec(),
        };
        assert_eq!(message.message_id().as_deref(), Some("<1@x>"));
        assert_eq!(message.header("subject").as_deref(), Some("a long one"));
        assert_eq!(message.header("X-Body"), None);
        assert_eq!(message.body(), "X-Body: no\r\n");
    }
}
