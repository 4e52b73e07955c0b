import java.io.FileInputStream;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import kafka.server.KafkaConfig;
import org.apache.kafka.metadata.authorizer.StandardAuthorizer;

/** Reads server.properties as a broker does; prints a line for each name that no broker knows, and ends with 1 then. */
public class CheckKafka {
  public static void main(String[] arguments) throws Exception {
    Properties read = new Properties();
    try (FileInputStream file = new FileInputStream(arguments[0])) {
      read.load(file);
    }
    new KafkaConfig(read, false); // throws ConfigException for a value it cannot take
    Set<String> ofAuthorizer = Set.of(
        StandardAuthorizer.SUPER_USERS_CONFIG, StandardAuthorizer.ALLOW_EVERYONE_IF_NO_ACL_IS_FOUND_CONFIG);
    Set<String> unknown = new TreeSet<>();
    for (String name : read.stringPropertyNames()) {
      boolean isOfListener = name.startsWith("listener.name.") || name.startsWith("config.providers");
      if (!isOfListener && !ofAuthorizer.contains(name) && !KafkaConfig.configNames().contains(name)) {
        unknown.add(name);
      }
    }
    unknown.forEach(name -> System.out.println("unknown: " + name));
    System.exit(unknown.isEmpty() ? 0 : 1);
  }
}
