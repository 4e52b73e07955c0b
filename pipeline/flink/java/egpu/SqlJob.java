package egpu;

import java.nio.charset.StandardCharsets;
import java.util.Base64;
import java.util.Map;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.PipelineOptions;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.StatementSet;
import org.apache.flink.table.api.TableEnvironment;

/**
 * Runs a SQL script as one job: {@code POST /jars/ID/run} with the script, in base64 of its UTF-8, as the only argument.
 *
 * <p>{@code SET 'option' = 'value'} holds for the whole script, all INSERTs are one statement set, and the other
 * statements run before it in their order.
 */
public final class SqlJob {
    private static final String SAVEPOINT = "execution.savepoint.path";

    private SqlJob() {}

    public static void main(String[] arguments) {
        if (arguments.length != 1) {
            throw new IllegalArgumentException("one argument: the SQL script in base64");
        }
        run(new SqlScript(new String(Base64.getDecoder().decode(arguments[0]), StandardCharsets.UTF_8)));
    }

    private static void run(SqlScript script) {
        if (script.inserts.isEmpty()) {
            throw new IllegalArgumentException("the script has no INSERT");
        }
        Configuration settings = Configuration.fromMap(script.settings);
        Map<String, String> client = clientSettings();
        if (!client.getOrDefault(SAVEPOINT, "").isEmpty()) {
            String parameters = PipelineOptions.GLOBAL_JOB_PARAMETERS.key();
            String given = settings.toMap().getOrDefault(parameters, client.getOrDefault(parameters, ""));
            String restored = ComesLate.RESTORED + ":true";
            settings.setString(parameters, given.isEmpty() ? restored : given + "," + restored);
        }
        if (!settings.containsKey(OperatorNames.OPTION)) {
            settings.setString(OperatorNames.OPTION, OperatorNames.ALWAYS);
        }
        TableEnvironment tables = TableEnvironment.create(
                EnvironmentSettings.newInstance().inStreamingMode().withConfiguration(settings).build());
        for (String statement : script.statements) {
            tables.executeSql(statement);
        }
        StatementSet inserts = tables.createStatementSet();
        script.inserts.forEach(inserts::addInsertSql);
        OperatorNames.beginAgain();
        inserts.execute();
    }

    /** What the request said: the client's configuration carries it. */
    private static Map<String, String> clientSettings() {
        return ((Configuration) StreamExecutionEnvironment.getExecutionEnvironment().getConfiguration()).toMap();
    }
}
