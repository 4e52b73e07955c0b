package egpu;

import java.io.IOException;
import java.util.List;
import java.util.Objects;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.metrics.Counter;
import org.apache.flink.metrics.MetricGroup;
import org.apache.flink.metrics.SimpleCounter;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.TimestampData;
import org.apache.flink.table.types.logical.RowType;
import org.apache.flink.util.Collector;

/** One record (a WriteRequest) to one row a sample, of the declared columns only. */
public final class RemoteWriteDecoder implements DeserializationSchema<RowData> {
    private static final long serialVersionUID = 1L;

    /** Prometheus' marker that a series ended (model/value/value.go). */
    private static final long STALE = 0x7ff0000000000002L;

    private static final long EXPONENT = 0x7ff0000000000000L;

    private final RowType rowType;
    private final TypeInformation<RowData> produced;
    private final DecoderOptions options;

    private transient List<Column> columns;
    private transient BodyReader reader;
    private transient SnappyBlock block;
    private transient int timeAt;
    private transient int valueAt;
    private transient int seriesAt;
    private transient int corruptAt;
    private transient boolean timeIsNumber;
    private transient long lastTime;
    private transient Counter samples;
    private transient Counter droppedUnknown;
    private transient Counter droppedStale;
    private transient Counter droppedInvalid;
    private transient Counter droppedTime;
    private transient Counter corruptRecords;

    RemoteWriteDecoder(RowType rowType, TypeInformation<RowData> produced, DecoderOptions options) {
        this.rowType = rowType;
        this.produced = produced;
        this.options = options;
    }

    @Override
    public void open(InitializationContext context) {
        begin();
        MetricGroup group = context.getMetricGroup().addGroup("remote_write");
        samples = group.counter("samples", samples);
        droppedUnknown = group.counter("dropped_unknown", droppedUnknown);
        droppedStale = group.counter("dropped_stale", droppedStale);
        droppedInvalid = group.counter("dropped_invalid", droppedInvalid);
        droppedTime = group.counter("dropped_time", droppedTime);
        corruptRecords = group.counter("corrupt_records", corruptRecords);
        group.gauge("series", reader::seriesCount);
    }

    private void begin() {
        columns = Column.of(rowType);
        reader = new BodyReader(options, columns);
        block = new SnappyBlock(options.bodyBytesMax);
        timeAt = valueAt = seriesAt = corruptAt = -1;
        for (int i = 0; i < columns.size(); i++) {
            switch (columns.get(i).kind) {
                case TIME_MILLIS:
                    timeIsNumber = true;
                    timeAt = i;
                    break;
                case TIME:
                    timeAt = i;
                    break;
                case VALUE:
                    valueAt = i;
                    break;
                case SERIES:
                    seriesAt = i;
                    break;
                case CORRUPT:
                    corruptAt = i;
                    break;
                default:
                    break;
            }
        }
        samples = new SimpleCounter();
        droppedUnknown = new SimpleCounter();
        droppedStale = new SimpleCounter();
        droppedInvalid = new SimpleCounter();
        droppedTime = new SimpleCounter();
        corruptRecords = new SimpleCounter();
    }

    @Override
    public void deserialize(byte[] record, Collector<RowData> out) throws IOException {
        if (record == null) {
            // A tombstone says nothing.
            return;
        }
        Batch batch;
        try {
            boolean packed = options.compression == DecoderOptions.Compression.SNAPPY;
            int length = packed ? block.read(record) : record.length;
            batch = reader.read(packed ? block.buffer() : record, length);
        } catch (CorruptRecord why) {
            refuse(record, why, out);
            return;
        }
        emit(batch, out);
    }

    private void refuse(byte[] record, CorruptRecord why, Collector<RowData> out) throws IOException {
        corruptRecords.inc();
        if (options.onCorrupt == DecoderOptions.OnCorrupt.FAIL) {
            throw new IOException("not a remote-write record: " + why.getMessage());
        }
        if (options.onCorrupt == DecoderOptions.OnCorrupt.ROW && corruptAt >= 0) {
            GenericRowData row = new GenericRowData(columns.size());
            row.setField(corruptAt, record);
            if (timeAt >= 0) {
                row.setField(timeAt, time(lastTime));
            }
            out.collect(row);
        }
    }

    private void emit(Batch batch, Collector<RowData> out) {
        long timeMax = options.futureMax == 0 ? Long.MAX_VALUE : System.currentTimeMillis() + options.futureMax;
        int emitted = 0;
        for (int i = 0; i < batch.count; i++) {
            Series series = batch.series[i];
            long bits = batch.value[i];
            long time = batch.time[i];
            if (series.columns == null) {
                droppedUnknown.inc();
            } else if ((bits & EXPONENT) == EXPONENT) {
                // NaN and the infinities; the marker is told apart by its bits, for it is a NaN.
                (bits == STALE ? droppedStale : droppedInvalid).inc();
            } else if (time < 0 || time > timeMax) {
                droppedTime.inc();
            } else {
                emitted += emit(series, time, Double.longBitsToDouble(bits), out);
            }
        }
        samples.inc(emitted);
    }

    /** A row for each series of ours that the sender's stands for. */
    private int emit(Series series, long time, double value, Collector<RowData> out) {
        int emitted = 0;
        for (Series each = series; each != null; each = each.also) {
            if (Math.abs(value) < each.bound) {
                out.collect(row(each, time, value));
                emitted++;
            } else {
                droppedInvalid.inc();
            }
        }
        return emitted;
    }

    /** A new row for each sample: what changes a row that the heap knows for long costs the garbage collector dearly. */
    private RowData row(Series series, long time, double value) {
        Object[] columns = series.columns;
        GenericRowData row = new GenericRowData(columns.length);
        for (int i = 0; i < columns.length; i++) {
            row.setField(i, columns[i]);
        }
        if (timeAt >= 0) {
            row.setField(timeAt, time(time));
        }
        if (valueAt >= 0) {
            row.setField(valueAt, value);
        }
        if (seriesAt >= 0 && options.window > 0 && series.opens(time / options.window)) {
            row.setField(seriesAt, reader.text(series));
        }
        lastTime = time;
        return row;
    }

    private Object time(long time) {
        return timeIsNumber ? (Object) time : TimestampData.fromEpochMillis(time);
    }

    @Override
    public RowData deserialize(byte[] record) {
        throw new UnsupportedOperationException("a record holds many samples: give a collector");
    }

    @Override
    public boolean isEndOfStream(RowData row) {
        return false;
    }

    @Override
    public TypeInformation<RowData> getProducedType() {
        return produced;
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof RemoteWriteDecoder
                && rowType.equals(((RemoteWriteDecoder) other).rowType)
                && options.equals(((RemoteWriteDecoder) other).options);
    }

    @Override
    public int hashCode() {
        return Objects.hash(rowType, options);
    }
}
