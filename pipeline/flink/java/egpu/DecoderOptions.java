package egpu;

import java.io.Serializable;
import java.util.Objects;

/** What a table's WITH clause says about the format; the option names are in {@link RemoteWriteFormatFactory}. */
final class DecoderOptions implements Serializable {
    private static final long serialVersionUID = 1L;

    enum OnCorrupt {
        FAIL,
        SKIP,
        ROW
    }

    enum Compression {
        NONE,
        SNAPPY
    }

    final SeriesTable table;
    final int seriesMax;

    /** Length of a window in ms, 0 = every row carries the series' name. */
    final long window;

    /** How far ahead of this machine's clock a sample may be, ms; 0 = any time. */
    final long futureMax;

    final OnCorrupt onCorrupt;
    final Compression compression;
    final int bodyBytesMax;

    DecoderOptions(
            SeriesTable table, int seriesMax, long window, long futureMax, OnCorrupt onCorrupt, Compression compression,
            int bodyBytesMax) {
        this.table = table;
        this.seriesMax = seriesMax;
        this.window = window;
        this.futureMax = futureMax;
        this.onCorrupt = onCorrupt;
        this.compression = compression;
        this.bodyBytesMax = bodyBytesMax;
    }

    @Override
    public boolean equals(Object other) {
        if (!(other instanceof DecoderOptions)) {
            return false;
        }
        DecoderOptions o = (DecoderOptions) other;
        return table.equals(o.table) && seriesMax == o.seriesMax && window == o.window && futureMax == o.futureMax
                && onCorrupt == o.onCorrupt && compression == o.compression && bodyBytesMax == o.bodyBytesMax;
    }

    @Override
    public int hashCode() {
        return Objects.hash(table, seriesMax, window, futureMax, onCorrupt, compression, bodyBytesMax);
    }
}
