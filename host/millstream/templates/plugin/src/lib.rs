use millstream_plugin::prelude::*;

handler!(handle);

fn handle(message: Message) -> Result<Output, Failure> {
    Ok(Output::new(format!("hello, {}", message.text()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_is_greeted() {
        assert_eq!(handle(Message::new("Ada")), Ok(Output::new("hello, Ada")));
    }

    #[test]
    fn what_is_no_text_is_rejected() {
        assert!(handle(Message::new([0xff])).unwrap_err().is_reject());
    }
}
