package egpu;

import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/** The labels of one series, sorted by name; empty ones are left out, for to Prometheus they are the same as absent. */
final class Labels {
    private static final byte[] NAME = "__name__".getBytes(StandardCharsets.UTF_8);
    private static final byte[] NONE = new byte[0];

    static final class Label {
        final byte[] name;
        final byte[] value;

        Label(byte[] name, byte[] value) {
            this.name = name;
            this.value = value;
        }
    }

    private final List<Label> sorted = new ArrayList<>();
    final byte[] metric;

    /** Read label messages, each with its tag and length, between two places. */
    Labels(byte[] bytes, int from, int to) throws CorruptRecord {
        Wire outer = new Wire();
        Wire label = new Wire();
        List<Label> found = new ArrayList<>();
        for (outer.over(bytes, from, to); outer.hasMore(); ) {
            outer.next();
            label.over(bytes, outer.inside, outer.insideEnd);
            found.add(read(label));
        }
        sort(found);
        byte[] name = NONE;
        for (int i = 0; i < found.size(); i++) {
            Label each = found.get(i);
            boolean said = i + 1 < found.size() && Arrays.equals(each.name, found.get(i + 1).name);
            if (said || each.value.length == 0) {
                continue;
            }
            if (Arrays.equals(each.name, NAME)) {
                name = each.value;
            } else {
                sorted.add(each);
            }
        }
        metric = name;
    }

    /** They mostly come sorted. */
    private static void sort(List<Label> labels) {
        for (int i = 1; i < labels.size(); i++) {
            if (compare(labels.get(i - 1), labels.get(i)) > 0) {
                labels.sort(Labels::compare);
                return;
            }
        }
    }

    private static int compare(Label a, Label b) {
        int byName = Arrays.compareUnsigned(a.name, b.name);
        return byName != 0 ? byName : Arrays.compareUnsigned(a.value, b.value);
    }

    private static Label read(Wire wire) throws CorruptRecord {
        byte[] name = NONE;
        byte[] value = NONE;
        while (wire.hasMore()) {
            wire.next();
            if (wire.type == Wire.LEN && wire.number == 1) {
                name = Arrays.copyOfRange(wire.bytes, wire.inside, wire.insideEnd);
            } else if (wire.type == Wire.LEN && wire.number == 2) {
                value = Arrays.copyOfRange(wire.bytes, wire.inside, wire.insideEnd);
            }
        }
        if (!isUtf8(name) || !isUtf8(value)) {
            throw new CorruptRecord("a label is not UTF-8");
        }
        return new Label(name, value);
    }

    /** All labels but the name, sorted by name. */
    List<Label> all() {
        return sorted;
    }

    /** The value of a label, null when absent. */
    byte[] value(byte[] name) {
        for (Label each : sorted) {
            if (Arrays.equals(each.name, name)) {
                return each.value;
            }
        }
        return null;
    }

    /**
     * The labels that a rule lists, as {@code name{a="b",c="d"}}: the notation of the exposition format, sorted by
     * label. A name that is no plain identifier stands in quotes, a metric's inside the braces (Prometheus 3).
     */
    byte[] text(SeriesTable.Rule rule) {
        Text out = new Text(metric.length + 8);
        boolean plain = isIdentifier(metric, true);
        if (plain) {
            out.append(metric);
        }
        out.append('{');
        boolean first = true;
        if (!plain && metric.length > 0) {
            out.quote(metric);
            first = false;
        }
        for (Label each : sorted) {
            if (!rule.names(each.name)) {
                continue;
            }
            if (!first) {
                out.append(',');
            }
            first = false;
            if (isIdentifier(each.name, false)) {
                out.append(each.name);
            } else {
                out.quote(each.name);
            }
            out.append('=');
            out.quote(each.value);
        }
        out.append('}');
        return Arrays.copyOf(out.bytes, out.length);
    }

    /** Bytes that grow. */
    private static final class Text {
        private byte[] bytes;
        private int length;

        Text(int expected) {
            bytes = new byte[Math.max(expected, 512)];
        }

        void append(char ascii) {
            room(1);
            bytes[length++] = (byte) ascii;
        }

        void append(byte[] text) {
            room(text.length);
            System.arraycopy(text, 0, bytes, length, text.length);
            length += text.length;
        }

        void quote(byte[] text) {
            room(2 * text.length + 2);
            bytes[length++] = '"';
            for (byte each : text) {
                if (each == '"' || each == '\\' || each == '\n') {
                    bytes[length++] = '\\';
                }
                bytes[length++] = each == '\n' ? (byte) 'n' : each;
            }
            bytes[length++] = '"';
        }

        private void room(int more) {
            if (length + more > bytes.length) {
                bytes = Arrays.copyOf(bytes, Math.max(length + more, 2 * bytes.length));
            }
        }
    }

    private static boolean isIdentifier(byte[] name, boolean colon) {
        for (int i = 0; i < name.length; i++) {
            byte c = name[i];
            boolean letter = c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || colon && c == ':';
            if (!letter && (i == 0 || c < '0' || c > '9')) {
                return false;
            }
        }
        return name.length > 0;
    }

    /** The series' number, the same in every reader and after every restart: 8 bytes of the text's SHA-256. */
    static long id(byte[] text) {
        try {
            byte[] digest = MessageDigest.getInstance("SHA-256").digest(text);
            long id = 0;
            for (int i = 0; i < 8; i++) {
                id = id << 8 | digest[i] & 0xff;
            }
            return id;
        } catch (NoSuchAlgorithmException everyJavaHasIt) {
            throw new IllegalStateException(everyJavaHasIt);
        }
    }

    /** RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
    static boolean isUtf8(byte[] text) {
        for (int at = 0; at < text.length; ) {
            int first = text[at] & 0xff;
            if (first < 0x80) {
                at++;
                continue;
            }
            int tail = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
            if (first < 0xc2 || first > 0xf4 || text.length - at <= tail) {
                return false;
            }
            for (int i = 1; i <= tail; i++) {
                if ((text[at + i] & 0xc0) != 0x80) {
                    return false;
                }
            }
            int second = text[at + 1] & 0xff;
            if (first == 0xe0 && second < 0xa0 || first == 0xed && second > 0x9f
                    || first == 0xf0 && second < 0x90 || first == 0xf4 && second > 0x8f) {
                return false;
            }
            at += tail + 1;
        }
        return true;
    }
}
