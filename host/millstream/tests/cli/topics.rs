//! `topics`, and who may open a log.

use crate::ORDERS;
use crate::folder::Folder;

#[test]
fn topics_are_created_listed_described_and_grown() {
    let folder = Folder::new();
    let topics = |args: &[&str]| folder.run(&[&["--data-dir", "d", "topics"], args].concat());
    topics(&["list"]).done().golden("topics-none");
    topics(&["create", "t", "--partitions", "2", "--retention", "7d", "--dry-run"]).done();
    assert_eq!(topics(&["list", "--json"]).done().stdout, "[]\n", "a dry run makes nothing");
    topics(&["create", "t", "--partitions", "2", "--retention", "7d"]).done();
    topics(&["create", "t", "--partitions", "2"]).done().golden("topic-is-there");
    topics(&["create", "t", "--partitions", "3"]).done().golden("topic-grown");
    topics(&["create", "t", "--partitions", "1"]).golden("topic-too-large");
    topics(&["create", "a b"]).fails(2, "MS1007");
    topics(&["list"]).done().golden("topics-list");
    topics(&["list", "--json"]).done().golden("topics-list-json");
    topics(&["describe", "t"]).done().golden("topics-describe");
    topics(&["describe", "t", "--json"]).done().golden("topics-describe-json");
}

#[test]
fn all_topics_of_the_pipelines_are_made_once() {
    let folder = Folder::new();
    folder.write("millstream.toml", ORDERS);
    folder
        .run(&["topics", "create", "--pipelines", "--dry-run"])
        .done()
        .golden("pipelines-dry-run");
    folder.run(&["topics", "create", "--pipelines"]).done().golden("pipelines-create");
    folder.run(&["topics", "create", "--pipelines"]).done().golden("pipelines-again");
}

#[test]
fn a_log_in_use_by_nobody_who_answers_is_waited_for_and_then_named() {
    let folder = Folder::new();
    folder.run(&["--data-dir", "d", "topics", "create", "t"]).done();
    let lock = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.path().join("d/log/host.lock"))
        .expect("the lock file");
    lock.try_lock().expect("free");
    folder.run(&["--data-dir", "d", "topics", "list"]).fails(1, "in use by");
    drop(lock);
    folder.run(&["--data-dir", "d", "topics", "list"]).done();
}

#[test]
fn a_folder_that_is_no_log_is_refused() {
    let folder = Folder::new();
    folder.write("d/log/precious.txt", "mine");
    folder.run(&["--data-dir", "d", "topics", "list"]).fails(1, "is not an embedded log");
}
