package millstream.peers;

import java.time.Duration;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;

/**
 * Kafka Streams, a topology of a source and a sink.
 *
 * <p>{@code StreamsCopy BOOTSTRAP GROUP SOURCE OUTPUT GUARANTEE COMMIT_INTERVAL_MS STATE_DIR}
 */
public final class StreamsCopy {
    public static void main(String[] arguments) {
        var copy = Copy.of(arguments);
        var settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, copy.group());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, copy.bootstrap());
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, arguments[4]);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, arguments[5]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, arguments[6]);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Copy.THREADS);
        Copy.producer().forEach((name, value) -> settings.put(StreamsConfig.producerPrefix(name), value));
        Copy.consumer().forEach((name, value) -> settings.put(StreamsConfig.consumerPrefix(name), value));

        var builder = new StreamsBuilder();
        builder.stream(copy.source(), Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()))
                .to(copy.output(), Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
        var streams = new KafkaStreams(builder.build(), settings);
        Copy.untilTerminated(() -> streams.close(Duration.ofSeconds(15)));
        streams.start();
    }
}
