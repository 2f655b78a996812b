package millstream.peers;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.listener.BatchMessageListener;
import org.springframework.kafka.listener.ConcurrentMessageListenerContainer;
import org.springframework.kafka.listener.ContainerProperties;

/**
 * Spring Kafka: a batch listener that sends each record on. At least once: a batch is committed when its
 * sends are acknowledged.
 *
 * <p>{@code SpringCopy BOOTSTRAP GROUP SOURCE OUTPUT}
 */
public final class SpringCopy {
    public static void main(String[] arguments) {
        var copy = Copy.of(arguments);
        var producing = new HashMap<String, Object>(Copy.producer());
        producing.put("bootstrap.servers", copy.bootstrap());
        var producers = new DefaultKafkaProducerFactory<>(
                producing, new ByteArraySerializer(), new ByteArraySerializer());
        var template = new KafkaTemplate<>(producers);

        BatchMessageListener<byte[], byte[]> listener = records -> send(template, copy.output(), records);
        var container = new ContainerProperties(copy.source());
        container.setGroupId(copy.group());
        container.setAckMode(ContainerProperties.AckMode.BATCH);
        container.setMessageListener(listener);

        var consuming = new HashMap<String, Object>(Copy.consumer());
        consuming.put("bootstrap.servers", copy.bootstrap());
        var consumers = new DefaultKafkaConsumerFactory<>(
                consuming, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        var listeners = new ConcurrentMessageListenerContainer<>(consumers, container);
        listeners.setConcurrency(Copy.THREADS);
        Copy.untilTerminated(() -> {
            listeners.stop();
            template.destroy();
            producers.destroy();
        });
        listeners.start();
    }

    private static void send(
            KafkaTemplate<byte[], byte[]> template,
            String output,
            List<ConsumerRecord<byte[], byte[]>> records) {
        var sent = new ArrayList<CompletableFuture<?>>(records.size());
        for (var record : records) {
            var on = new ProducerRecord<>(
                    output, null, null, record.key(), record.value(), record.headers());
            sent.add(template.send(on));
        }
        // Without it the rest of a batch would wait for the linger.
        template.flush();
        // One that failed throws, and the batch is read again.
        sent.forEach(CompletableFuture::join);
    }
}
