package egpu;

import java.io.Serializable;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.Set;

/**
 * Which series are read, what names them, and which of their values are valid.
 *
 * <p>As text: one metric a line (or after a {@code ;}): {@code NAME [<BOUND] LABEL LABEL ...}. Only these metrics are
 * emitted; of a series' labels only those listed name it; values at or above BOUND in magnitude are no values. A metric
 * that stands in several lines is read as several series: a sample becomes a row of each that has a name of its own.
 */
final class SeriesTable implements Serializable {
    private static final long serialVersionUID = 1L;

    /** All metrics, all labels, every finite value. */
    static final SeriesTable ALL = new SeriesTable("", null);

    static final class Rule implements Serializable {
        private static final long serialVersionUID = 1L;
        final double bound;
        private final Set<Text> labels;

        /** The next rule of the same metric, null when there is none. */
        private Rule next;

        Rule(double bound, Set<Text> labels) {
            this.bound = bound;
            this.labels = labels;
        }

        boolean names(byte[] label) {
            return labels == null || labels.contains(new Text(label));
        }

        Rule next() {
            return next;
        }
    }

    private static final Rule EVERY = new Rule(Double.POSITIVE_INFINITY, null);

    private final String text;
    private final HashMap<Text, Rule> rules;

    private SeriesTable(String text, HashMap<Text, Rule> rules) {
        this.text = text;
        this.rules = rules;
    }

    /** Throws IllegalArgumentException with one sentence. */
    static SeriesTable parse(String text) {
        HashMap<Text, Rule> rules = new HashMap<>();
        for (String line : text.split("[\n;]")) {
            String[] words = line.trim().split("\\s+");
            if (words[0].isEmpty()) {
                continue;
            }
            boolean bounded = words.length > 1 && words[1].startsWith("<");
            double bound = bounded ? number(words[1].substring(1), line) : Double.POSITIVE_INFINITY;
            Set<Text> labels = new HashSet<>();
            for (String label : Arrays.asList(words).subList(bounded ? 2 : 1, words.length)) {
                labels.add(new Text(label.getBytes(StandardCharsets.UTF_8)));
            }
            add(rules, words[0], new Rule(bound, labels));
        }
        return new SeriesTable(text, rules);
    }

    /** Rules of a metric keep the order of their lines. */
    private static void add(HashMap<Text, Rule> rules, String name, Rule rule) {
        Rule last = rules.putIfAbsent(new Text(name.getBytes(StandardCharsets.UTF_8)), rule);
        while (last != null) {
            if (last.labels.equals(rule.labels)) {
                throw new IllegalArgumentException("series table: " + name + " stands there twice with the same labels");
            }
            if (last.next == null) {
                last.next = rule;
                return;
            }
            last = last.next;
        }
    }

    private static double number(String text, String line) {
        try {
            double bound = Double.parseDouble(text);
            if (bound > 0) {
                return bound;
            }
        } catch (NumberFormatException notANumber) {
            // Said below, with the line it is in.
        }
        throw new IllegalArgumentException("series table: no bound above 0 in: " + line.trim());
    }

    /** The first rule of a metric, null when its series are not wanted. */
    Rule of(byte[] name) {
        return rules == null ? EVERY : rules.get(new Text(name));
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof SeriesTable && text.equals(((SeriesTable) other).text);
    }

    @Override
    public int hashCode() {
        return text.hashCode();
    }

    /** Bytes as a key of a map; ordered as UTF-8, which is the order of code points. */
    static final class Text implements Serializable, Comparable<Text> {
        private static final long serialVersionUID = 1L;
        private final byte[] bytes;

        Text(byte[] bytes) {
            this.bytes = bytes;
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Text && Arrays.equals(bytes, ((Text) other).bytes);
        }

        @Override
        public int hashCode() {
            return Arrays.hashCode(bytes);
        }

        @Override
        public int compareTo(Text other) {
            return Arrays.compareUnsigned(bytes, other.bytes);
        }

        @Override
        public String toString() {
            return new String(bytes, StandardCharsets.UTF_8);
        }
    }
}
