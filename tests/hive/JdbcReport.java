import java.sql.*;

/** Rows of a SELECT through Hive's JDBC driver: a line of column names, then one a row, tabs between, NULL as NULL. */
public class JdbcReport {
    public static void main(String[] given) throws Exception {
        try (Connection connection = DriverManager.getConnection(given[0], given[1], given[2]);
                ResultSet rows = connection.createStatement().executeQuery(given[3])) {
            int count = rows.getMetaData().getColumnCount();
            StringBuilder text = new StringBuilder();
            for (int i = 1; i <= count; i++) text.append(rows.getMetaData().getColumnLabel(i).replaceFirst(".*\\.", "")).append(i < count ? "\t" : "\n");
            while (rows.next()) for (int i = 1; i <= count; i++) text.append(rows.getObject(i) == null ? "NULL" : rows.getString(i)).append(i < count ? "\t" : "\n");
            System.out.print(text);
        }
    }
}
