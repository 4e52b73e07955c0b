package egpu;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** A SQL script: statements that end with a semicolon outside quotes, settings first. */
final class SqlScript {
    private static final Pattern SET =
            Pattern.compile("\\s*SET\\s+'((?:[^']|'')+)'\\s*=\\s*'((?:[^']|'')*)'\\s*", Pattern.CASE_INSENSITIVE | Pattern.DOTALL);
    private static final Pattern INSERT = Pattern.compile("\\s*INSERT\\s.*", Pattern.CASE_INSENSITIVE | Pattern.DOTALL);

    final Map<String, String> settings = new LinkedHashMap<>();
    final List<String> statements = new ArrayList<>();
    final List<String> inserts = new ArrayList<>();

    SqlScript(String text) {
        for (String statement : split(text)) {
            Matcher set = SET.matcher(statement);
            if (set.matches()) {
                settings.put(set.group(1).replace("''", "'"), set.group(2).replace("''", "'"));
            } else if (INSERT.matcher(statement).matches()) {
                inserts.add(statement);
            } else {
                statements.add(statement);
            }
        }
    }

    static List<String> split(String text) {
        List<String> found = new ArrayList<>();
        StringBuilder statement = new StringBuilder();
        char quote = 0;
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (quote == 0 && text.startsWith("--", i)) {
                int end = text.indexOf('\n', i);
                i = end < 0 ? text.length() : end;
                statement.append('\n');
                continue;
            }
            if (quote == 0 && c == ';') {
                keep(statement, found);
                continue;
            }
            if (quote == 0 && (c == '\'' || c == '`' || c == '"')) {
                quote = c;
            } else if (c == quote) {
                // A doubled quote closes and opens again, which comes to the same.
                quote = 0;
            }
            statement.append(c);
        }
        keep(statement, found);
        return found;
    }

    private static void keep(StringBuilder statement, List<String> found) {
        String text = statement.toString().trim();
        if (!text.isEmpty()) {
            found.add(text);
        }
        statement.setLength(0);
    }
}
