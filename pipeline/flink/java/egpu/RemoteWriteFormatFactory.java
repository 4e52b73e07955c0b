package egpu;

import java.time.Duration;
import java.util.Set;
import org.apache.flink.api.common.serialization.DeserializationSchema;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.ConfigOptions;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.table.api.ValidationException;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.format.DecodingFormat;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DeserializationFormatFactory;
import org.apache.flink.table.factories.DynamicTableFactory;
import org.apache.flink.table.factories.FactoryUtil;
import org.apache.flink.table.types.DataType;
import org.apache.flink.table.types.logical.RowType;

/** {@code 'format' = 'remote-write'}: Prometheus Remote Write 1.0 requests, one row a sample. README.md tells of it. */
public final class RemoteWriteFormatFactory implements DeserializationFormatFactory {
    static final ConfigOption<String> SERIES_TABLE = ConfigOptions.key("series-table").stringType().noDefaultValue()
            .withDescription("One metric a line: NAME [<BOUND] LABEL LABEL ...; only these are emitted.");
    static final ConfigOption<Integer> SERIES_MAX = ConfigOptions.key("series-max").intType().defaultValue(500_000)
            .withDescription("Series that one reader keeps in its cache; above it the cache starts afresh.");
    static final ConfigOption<Duration> SERIES_WINDOW = ConfigOptions.key("series-window").durationType()
            .defaultValue(Duration.ZERO)
            .withDescription("Give the column series only once a window of this length; 0: in every row.");
    static final ConfigOption<Duration> FUTURE_MAX = ConfigOptions.key("future-max").durationType()
            .defaultValue(Duration.ZERO)
            .withDescription("Drop samples that are further ahead of this machine's clock; 0: keep them.");
    static final ConfigOption<DecoderOptions.OnCorrupt> ON_CORRUPT = ConfigOptions.key("on-corrupt")
            .enumType(DecoderOptions.OnCorrupt.class).defaultValue(DecoderOptions.OnCorrupt.FAIL)
            .withDescription("What a record that cannot be read does: fail the job, be skipped, or be a row of its own.");
    static final ConfigOption<DecoderOptions.Compression> COMPRESSION = ConfigOptions.key("compression")
            .enumType(DecoderOptions.Compression.class).defaultValue(DecoderOptions.Compression.NONE)
            .withDescription("none: the value is the request; snappy: a snappy block of it, as HTTP carries it.");
    static final ConfigOption<MemorySize> BODY_BYTES_MAX = ConfigOptions.key("body-bytes-max").memoryType()
            .defaultValue(MemorySize.ofMebiBytes(64))
            .withDescription("What a snappy block may declare.");

    @Override
    public String factoryIdentifier() {
        return "remote-write";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of(SERIES_TABLE, SERIES_MAX, SERIES_WINDOW, FUTURE_MAX, ON_CORRUPT, COMPRESSION, BODY_BYTES_MAX);
    }

    @Override
    public DecodingFormat<DeserializationSchema<RowData>> createDecodingFormat(
            DynamicTableFactory.Context context, ReadableConfig config) {
        FactoryUtil.validateFactoryOptions(this, config);
        DecoderOptions options = options(config);
        return new DecodingFormat<DeserializationSchema<RowData>>() {
            @Override
            public DeserializationSchema<RowData> createRuntimeDecoder(DynamicTableSource.Context context, DataType type) {
                RowType rowType = (RowType) type.getLogicalType();
                Column.of(rowType);
                return new RemoteWriteDecoder(rowType, context.createTypeInformation(type), options);
            }

            @Override
            public ChangelogMode getChangelogMode() {
                return ChangelogMode.insertOnly();
            }
        };
    }

    static DecoderOptions options(ReadableConfig config) {
        SeriesTable table;
        try {
            table = config.getOptional(SERIES_TABLE).map(SeriesTable::parse).orElse(SeriesTable.ALL);
        } catch (IllegalArgumentException why) {
            throw new ValidationException("format remote-write: " + why.getMessage());
        }
        if (config.get(SERIES_MAX) < 1) {
            throw new ValidationException("format remote-write: series-max has to be at least 1");
        }
        return new DecoderOptions(
                table,
                config.get(SERIES_MAX),
                config.get(SERIES_WINDOW).toMillis(),
                config.get(FUTURE_MAX).toMillis(),
                config.get(ON_CORRUPT),
                config.get(COMPRESSION),
                (int) Math.min(config.get(BODY_BYTES_MAX).getBytes(), Integer.MAX_VALUE - 16));
    }
}
