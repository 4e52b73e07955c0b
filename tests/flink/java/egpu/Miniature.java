package egpu;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.api.common.serialization.DeserializationSchema.InitializationContext;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.table.data.GenericMapData;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.table.types.logical.utils.LogicalTypeParser;
import org.apache.flink.util.Collector;
import org.apache.flink.util.UserCodeClassLoader;

/**
 * The format and the rollup without a cluster: {@code Miniature rows|windows ROW-TYPE [OPTION=VALUE ...]}.
 *
 * <p>Reads records in base64, one a line. {@code rows}: a line a row, {@code end} or {@code failed} after each record.
 * {@code windows}: rows (ts BIGINT, value, series_id, series) of each record are rolled up apart and then merged, as
 * reader and aggregator do it; a line a series and window. The counters come last.
 */
public final class Miniature {
    private static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    private Miniature() {}

    public static void main(String[] arguments) throws Exception {
        RowType type = (RowType) LogicalTypeParser.parse(arguments[1], Miniature.class.getClassLoader());
        Configuration options = new Configuration();
        for (int i = 2; i < arguments.length; i++) {
            String[] parts = arguments[i].split("=", 2);
            options.setString(parts[0], parts[1]);
        }
        RemoteWriteDecoder decoder = new RemoteWriteDecoder(type, null, RemoteWriteFormatFactory.options(options));
        Map<String, Counter> counters = new TreeMap<>();
        decoder.open(context(counters));
        List<byte[]> records = new ArrayList<>();
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            records.add(Base64.getDecoder().decode(line));
        }
        if (arguments[0].equals("rows")) {
            rows(decoder, records);
        } else {
            windows(decoder, records);
        }
        counters.forEach((name, counter) -> say("counter", name, String.valueOf(counter.getCount())));
        OUT.flush();
    }

    private static void rows(RemoteWriteDecoder decoder, List<byte[]> records) {
        for (byte[] record : records) {
            List<RowData> found = new ArrayList<>();
            try {
                decoder.deserialize(record, collector(found));
            } catch (IOException why) {
                say("failed", why.getMessage());
                continue;
            }
            for (RowData row : found) {
                String[] fields = new String[row.getArity() + 1];
                fields[0] = "row";
                for (int i = 0; i < row.getArity(); i++) {
                    fields[i + 1] = text(((GenericRowData) row).getField(i));
                }
                say(fields);
            }
            say("end");
        }
    }

    private static void windows(RemoteWriteDecoder decoder, List<byte[]> records) throws IOException {
        WindowRollup rollup = new WindowRollup();
        Map<Long, Map<Long, SeriesWindow>> whole = new TreeMap<>();
        for (byte[] record : records) {
            List<RowData> found = new ArrayList<>();
            decoder.deserialize(record, collector(found));
            Map<Long, Map<Long, SeriesWindow>> part = new TreeMap<>();
            for (RowData row : found) {
                SeriesWindow window = of(part, row.getLong(2), row.getLong(0) / 300_000 * 300_000, rollup);
                rollup.accumulate(window, row.getLong(0), row.getDouble(1), row.isNullAt(3) ? null : row.getString(3));
            }
            part.forEach((series, windows) -> windows.forEach((start, window) ->
                    rollup.merge(of(whole, series, start, rollup), List.of(carried(window)))));
        }
        whole.forEach((series, windows) -> windows.forEach((start, window) -> {
            GenericRowData row = (GenericRowData) rollup.getValue(carried(window));
            String[] fields = new String[row.getArity() + 2];
            fields[0] = "window";
            fields[1] = text(start);
            for (int i = 0; i < row.getArity(); i++) {
                fields[i + 2] = text(row.getField(i));
            }
            say(fields);
        }));
    }

    private static SeriesWindow of(
            Map<Long, Map<Long, SeriesWindow>> all, long series, long start, WindowRollup rollup) {
        return all.computeIfAbsent(series, key -> new TreeMap<>())
                .computeIfAbsent(start, key -> rollup.createAccumulator());
    }

    /** What is left of an accumulator after it went over the network or into a checkpoint. */
    private static SeriesWindow carried(SeriesWindow window) {
        SeriesWindow other = new SeriesWindow();
        other.setSeries(window.getSeries());
        other.setSamples(window.getSamples());
        return other;
    }

    private static Collector<RowData> collector(List<RowData> found) {
        return new Collector<RowData>() {
            @Override
            public void collect(RowData row) {
                found.add(row);
            }

            @Override
            public void close() {}
        };
    }

    private static InitializationContext context(Map<String, Counter> counters) {
        MetricGroup group = (MetricGroup) Proxy.newProxyInstance(
                Miniature.class.getClassLoader(), new Class<?>[] {MetricGroup.class}, (proxy, method, arguments) -> {
                    if (method.getName().equals("counter")) {
                        counters.put((String) arguments[0], (Counter) arguments[1]);
                    }
                    return method.getName().equals("addGroup") ? proxy : arguments[1];
                });
        return new InitializationContext() {
            @Override
            public MetricGroup getMetricGroup() {
                return group;
            }

            @Override
            public UserCodeClassLoader getUserCodeClassLoader() {
                throw new UnsupportedOperationException();
            }
        };
    }

    private static String text(Object value) {
        if (value == null) {
            return "-";
        }
        if (value instanceof byte[]) {
            return Base64.getEncoder().encodeToString((byte[]) value);
        }
        if (value instanceof StringData) {
            return Base64.getEncoder().encodeToString(((StringData) value).toBytes());
        }
        if (value instanceof Double) {
            return String.valueOf(Double.doubleToRawLongBits((Double) value));
        }
        if (value instanceof TimestampData) {
            return String.valueOf(((TimestampData) value).getMillisecond());
        }
        if (value instanceof GenericMapData) {
            GenericMapData map = (GenericMapData) value;
            List<String> pairs = new ArrayList<>();
            for (Object key : ((org.apache.flink.table.data.GenericArrayData) map.keyArray()).toObjectArray()) {
                pairs.add(text(key) + ":" + text(map.get(key)));
            }
            return String.join(",", pairs);
        }
        return value.toString();
    }

    private static void say(String... fields) {
        OUT.print(String.join("\t", fields));
        OUT.print('\n');
    }
}
