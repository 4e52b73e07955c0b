package egpu;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.flink.table.data.GenericMapData;
import org.apache.flink.table.data.StringData;

/** A WriteRequest (prompb/remote.proto) to samples of known series. One per reader: it owns the series cache. */
final class BodyReader {
    private static final int TIME_SERIES = 1;
    private static final int LABEL = 1;
    private static final int SAMPLE = 2;
    private static final int SAMPLE_VALUE = 1;
    private static final int SAMPLE_TIME = 2;
    private static final byte LABEL_TAG = 0x0a;
    private static final int BODY_BYTES = 64 << 20;

    private final SeriesTable table;
    private final List<Column> columns;
    private final boolean seriesOnDemand;
    private final SeriesCache cache;
    private final Batch batch = new Batch();
    private final Wire request = new Wire();
    private final Wire timeSeries = new Wire();
    private final Wire sample = new Wire();

    /** The text of a series is long: where few rows carry it, it is made when one does. */
    BodyReader(DecoderOptions options, List<Column> columns) {
        this.table = options.table;
        this.columns = columns;
        this.seriesOnDemand = options.window > 0;
        this.cache = new SeriesCache(options.seriesMax, BODY_BYTES);
    }

    int seriesCount() {
        return cache.size();
    }

    /** The samples of a body; the batch is valid until the next read. */
    Batch read(byte[] body, int length) throws CorruptRecord {
        batch.clear();
        for (request.over(body, 0, length); request.hasMore(); ) {
            request.next();
            if (request.type == Wire.LEN && request.number == TIME_SERIES) {
                series(body, request.inside, request.insideEnd);
            }
        }
        return batch;
    }

    private void series(byte[] body, int from, int to) throws CorruptRecord {
        Series series = cache.predicted(body, from, to);
        timeSeries.over(body, from, to);
        if (series != null) {
            timeSeries.at = from + series.labels.length;
        } else {
            while (timeSeries.hasMore() && body[timeSeries.at] == LABEL_TAG) {
                timeSeries.at++;
                timeSeries.length();
            }
            series = known(body, from, timeSeries.at);
        }
        int first = batch.count;
        boolean late = false;
        while (timeSeries.hasMore()) {
            timeSeries.next();
            if (timeSeries.type != Wire.LEN) {
                continue;
            }
            if (timeSeries.number == SAMPLE) {
                batch.add(series);
                sample(body, batch.count - 1);
            } else if (timeSeries.number == LABEL) {
                late = true;
            }
        }
        if (late) {
            Arrays.fill(batch.series, first, batch.count, gathered(body, from, to));
        }
    }

    private void sample(byte[] body, int row) throws CorruptRecord {
        long value = 0;
        long time = 0;
        for (sample.over(body, timeSeries.inside, timeSeries.insideEnd); sample.hasMore(); ) {
            sample.next();
            if (sample.number == SAMPLE_VALUE && sample.type == Wire.I64) {
                value = sample.scalar;
            } else if (sample.number == SAMPLE_TIME && sample.type == Wire.VARINT) {
                time = sample.scalar;
            }
        }
        batch.value[row] = value;
        batch.time[row] = time;
    }

    /** The series of labels that stand between and after samples: other writers may send them so. */
    private Series gathered(byte[] body, int from, int to) throws CorruptRecord {
        byte[] labels = new byte[to - from];
        int length = 0;
        for (timeSeries.over(body, from, to); timeSeries.hasMore(); ) {
            int start = timeSeries.at;
            timeSeries.next();
            if (timeSeries.type == Wire.LEN && timeSeries.number == LABEL) {
                System.arraycopy(body, start, labels, length, timeSeries.at - start);
                length += timeSeries.at - start;
            }
        }
        return known(labels, 0, length);
    }

    private Series known(byte[] bytes, int from, int to) throws CorruptRecord {
        long hash = cache.hash(bytes, from, to);
        Series series = cache.find(bytes, from, to, hash);
        if (series == null) {
            series = read(new Labels(bytes, from, to), Arrays.copyOfRange(bytes, from, to), hash);
            cache.add(series);
        }
        return series;
    }

    /** The series of labels, one for each of the metric's rules that gives it another name than those before. */
    private Series read(Labels labels, byte[] key, long hash) {
        SeriesTable.Rule rule = table.of(labels.metric);
        Series first = new Series(key, hash, rule == null ? null : columns(labels, rule), rule);
        Series last = first;
        for (rule = rule == null ? null : rule.next(); rule != null; rule = rule.next()) {
            if (!isNamed(first, labels, labels.text(rule))) {
                last.also = new Series(key, hash, columns(labels, rule), rule);
                last = last.also;
            }
        }
        return first;
    }

    private static boolean isNamed(Series first, Labels labels, byte[] text) {
        for (Series each = first; each != null; each = each.also) {
            if (Arrays.equals(labels.text(each.rule), text)) {
                return true;
            }
        }
        return false;
    }

    /** The column series of a known series. */
    StringData text(Series series) {
        if (series.text != null) {
            return series.text;
        }
        byte[] text;
        try {
            Labels labels = new Labels(series.labels, 0, series.labels.length);
            text = labels.text(series.rule);
        } catch (CorruptRecord readBefore) {
            throw new IllegalStateException(readBefore);
        }
        StringData made = StringData.fromBytes(text);
        if (cache.keepsText(text.length)) {
            series.text = made;
        }
        return made;
    }

    private Object[] columns(Labels labels, SeriesTable.Rule rule) {
        Object[] row = new Object[columns.size()];
        byte[] text = null;
        for (int i = 0; i < row.length; i++) {
            Column column = columns.get(i);
            switch (column.kind) {
                case NAME:
                    row[i] = StringData.fromBytes(labels.metric);
                    break;
                case SERIES_ID:
                    text = text == null ? labels.text(rule) : text;
                    row[i] = Labels.id(text);
                    break;
                case SERIES:
                    text = text == null ? labels.text(rule) : text;
                    row[i] = seriesOnDemand ? null : StringData.fromBytes(text);
                    break;
                case LABELS:
                    row[i] = map(labels);
                    break;
                case LABEL:
                    byte[] value = labels.value(column.label);
                    row[i] = value == null ? null : StringData.fromBytes(value);
                    break;
                default:
                    break;
            }
        }
        return row;
    }

    private static GenericMapData map(Labels labels) {
        Map<StringData, StringData> found = new TreeMap<>();
        for (Labels.Label each : labels.all()) {
            found.put(StringData.fromBytes(each.name), StringData.fromBytes(each.value));
        }
        return new GenericMapData(found);
    }
}
