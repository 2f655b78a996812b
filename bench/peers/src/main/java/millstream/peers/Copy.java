package millstream.peers;

import java.util.Map;

/** What is copied where, from the command line; and what all clients have in common. */
record Copy(String bootstrap, String group, String source, String output) {
    /** As many as the cores of a small machine, as Millstream has instances. */
    static final int THREADS = 2;

    static Copy of(String[] arguments) {
        return new Copy(arguments[0], arguments[1], arguments[2], arguments[3]);
    }

    /** Batches as large as the brokers take them; the linger that every contender has. */
    static Map<String, Object> producer() {
        return Map.of("linger.ms", 5, "batch.size", 512 * 1024, "buffer.memory", 128L << 20, "acks", "all");
    }

    /** Large polls: what a poll costs by itself is shared by many messages. */
    static Map<String, Object> consumer() {
        return Map.of("auto.offset.reset", "earliest", "max.poll.records", 5_000);
    }

    /** Runs on until the process is told to end, then closes what must be closed. */
    static void untilTerminated(Runnable close) {
        Runtime.getRuntime().addShutdownHook(new Thread(close));
    }
}
