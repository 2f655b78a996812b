use super::*;

#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl PluginLog for Kept {
    fn line(&self, line: &LogLine<'_>) {
        let position = line.position.map(|p| p.to_string()).unwrap_or_default();
        let text = format!("{:?} {position} {}: {}", line.level, line.context, line.text);
        self.0.lock().unwrap().push(text);
    }
}

fn log(limits: &Limits) -> (InstanceLog, Arc<Kept>) {
    let kept = Arc::new(Kept::default());
    (InstanceLog::new(kept.clone(), "orders".into(), "pricing".into(), limits), kept)
}

#[test]
fn bytes_become_lines_wherever_they_were_split() {
    let (log, kept) = log(&Limits::default());
    log.lock().write(Stream::Out, b"one\ntw");
    log.lock().write(Stream::Out, b"o\n\nthree");
    log.lock().write(Stream::Err, b"beside");
    log.lock().finish();
    let lines = kept.0.lock().unwrap();
    assert_eq!(
        *lines,
        ["Info  stdout: one", "Info  stdout: two", "Info  stdout: three", "Warn  stderr: beside"]
    );
}

#[test]
fn long_lines_are_cut_and_many_lines_dropped_with_a_note() {
    let limits = Limits { log_lines: 2, log_line_bytes: 4, ..Limits::default() };
    let (log, kept) = log(&limits);
    log.lock().write(Stream::Out, b"123456789\n");
    log.lock().line(LogLevel::Info, "a\x1bb", "äääää");
    log.lock().line(LogLevel::Info, "c", "third");
    log.lock().line(LogLevel::Info, "c", "fourth");
    log.lock().finish();
    let lines = kept.0.lock().unwrap();
    assert_eq!(
        *lines,
        [
            "Info  stdout: 1234… [5 bytes cut]",
            "Info  a\\u{1b}b: ää… [6 bytes cut]",
            "Warn  log limit: 2 more lines dropped: limits.log_lines allows 2 of one call",
        ]
    );
}

#[test]
fn a_panic_is_remembered_beyond_the_limit_of_lines() {
    let limits = Limits { log_lines: 0, ..Limits::default() };
    let (log, _) = log(&limits);
    log.lock()
        .write(Stream::Err, b"\nthread 'main' panicked at src/lib.rs:7:5:\nno price\nfor it\n");
    log.lock().write(Stream::Err, b"note: run with `RUST_BACKTRACE=1` to see more\n");
    assert_eq!(log.lock().last_words(), Some("panicked at src/lib.rs:7:5: no price for it"));
}

#[test]
fn without_a_panic_the_last_line_of_standard_error_counts() {
    let (log, _) = log(&Limits::default());
    log.lock().write(Stream::Err, b"Traceback:\n  in f\nValueError: no\n");
    assert_eq!(log.lock().last_words(), Some("ValueError: no"));
}
