import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.util.HashMap;
import java.util.Map;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.FallbackKey;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.configuration.JobManagerOptions;
import org.apache.flink.runtime.clusterframework.TaskExecutorProcessUtils;
import org.apache.flink.runtime.jobmanager.JobManagerProcessUtils;

/**
 * Loads a folder's config.yaml as Flink's processes do, reads every value with the type of its option and divides the
 * memory; prints a line for each name that is no option, or an old name of one, and ends with 1 then.
 */
public class CheckFlink {
  private static final String CORE = "org.apache.flink.configuration.";
  private static final String[] CLASSES = {
    CORE + "BlobServerOptions", CORE + "CheckpointingOptions", CORE + "CoreOptions", CORE + "HeartbeatManagerOptions",
    CORE + "HighAvailabilityOptions", CORE + "JobManagerOptions", CORE + "MetricOptions", CORE + "PipelineOptions",
    CORE + "RestOptions", CORE + "RestartStrategyOptions", CORE + "SecurityOptions", CORE + "StateBackendOptions",
    CORE + "TaskManagerOptions", CORE + "WebOptions",
    "org.apache.flink.streaming.api.environment.ExecutionCheckpointingOptions",
    "org.apache.flink.kubernetes.configuration.KubernetesConfigOptions",
  };
  // Read by reporters and by file system plugins, which are not on this class path.
  private static final String OF_PLUGINS = "(metrics\\.reporter\\.[a-z]+\\..*|s3\\..*)";

  public static void main(String[] arguments) throws Exception {
    Configuration read = GlobalConfiguration.loadConfiguration(arguments[0]);
    Map<String, ConfigOption<?>> options = options();
    int unknown = 0;
    for (String name : read.keySet()) {
      ConfigOption<?> option = options.get(name);
      if (option != null) {
        read.getOptional(option); // throws IllegalArgumentException for a value of another type
      } else if (!name.matches(OF_PLUGINS)) {
        System.out.println("unknown: " + name);
        unknown++;
      }
    }
    JobManagerProcessUtils.processSpecFromConfigWithNewOptionToInterpretLegacyHeap(
        read, JobManagerOptions.JVM_HEAP_MEMORY);
    System.out.println(TaskExecutorProcessUtils.processSpecFromConfig(read));
    System.exit(unknown == 0 ? 0 : 1);
  }

  private static Map<String, ConfigOption<?>> options() throws Exception {
    Map<String, ConfigOption<?>> found = new HashMap<>();
    for (String name : CLASSES) {
      Class<?> holder;
      try {
        holder = Class.forName(name);
      } catch (ClassNotFoundException absent) {
        continue; // moved to another class of the list in another version
      }
      for (Field field : holder.getFields()) {
        if (Modifier.isStatic(field.getModifiers()) && ConfigOption.class.isAssignableFrom(field.getType())) {
          ConfigOption<?> option = (ConfigOption<?>) field.get(null);
          found.put(option.key(), option);
        }
      }
    }
    return found;
  }
}
